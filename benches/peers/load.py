"""The works that can be measured, and the load generators that drive them."""

import dataclasses
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from contestants import LOGGED

HERE = Path(__file__).resolve().parent
CONNECTIONS = 64
H2_CONNECTIONS = 16
H2_STREAMS = 16
EVERY_POLICY = ("mamparo", "nginx", "haproxy", "envoy")


@dataclasses.dataclass(frozen=True)
class Work:
    """One kind of request, and who is measured doing it. The first contestant is the one compared with the rest."""

    name: str
    what: str
    path: str
    contestants: tuple[str, ...] = EVERY_POLICY
    script: str | None = None
    connections: int = CONNECTIONS
    # Which of a contestant's listeners it goes to, and how.
    port: str = "LISTEN"
    scheme: str = "http"
    # The load is h2load's, with these options.
    h2load: tuple[str, ...] | None = None
    # What the configurations have for this work that they do not have for the others.
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    # The share of the tries that the origin refuses, so that there must be more of them than requests.
    refused: float = 0.0

    def url(self, ports):
        """Where the load goes."""
        return f"{self.scheme}://127.0.0.1:{ports[self.port]}{self.path}"

    @property
    def load(self):
        """The load in words."""
        if self.h2load is None:
            return f"wrk with {self.connections} connections"
        return f"h2load with {self.connections} connections of {H2_STREAMS} streams each"

    @property
    def logged(self):
        """Whether all who take part write an access log."""
        return self.settings.get("LOG") == ""

    def checked(self, name, result):
        """The result, if it is one of this work."""
        if self.refused and not 0.8 < (result.tries - 1) * (1 - self.refused) / self.refused < 1.2:
            raise RuntimeError(f"{name} made {result.tries:.3f} tries for each request: it does not retry as it should")
        return result


WORKS = {
    work.name: work
    for work in (
        Work("get64", "GET, an answer of 64 bytes, every policy on", "/64", (*EVERY_POLICY, "floor")),
        Work(
            "accesslog",
            "the same with an access log of every request, in JSON to a file",
            "/64",
            settings=LOGGED,
        ),
        Work("post4k", "POST of 4 KiB, an answer of 64 bytes, every policy on", "/64", script="post4k.lua"),
        Work(
            "get1m",
            "GET, an answer of 1 MiB, every policy on, nginx without and with buffering",
            "/1m",
            ("mamparo", "nginx", "nginx-buffering", "haproxy", "envoy"),
            settings={"BUFFERING": "off", "NGINX_BUFFER": "64k", "HAPROXY_BUFFER": 64 << 10},
        ),
        Work(
            "h2",
            "GET over HTTP/2 in plaintext, HTTP/1.1 to the origin, an answer of 64 bytes, every policy on",
            "/64",
            port="LISTEN_H2",
            connections=H2_CONNECTIONS,
            h2load=(),
        ),
        Work(
            "tls",
            "GET over TLS 1.3, connections kept, plaintext to the origin, an answer of 64 bytes, every policy on",
            "/64",
            port="LISTEN_TLS",
            scheme="https",
        ),
        Work(
            "retry503",
            "GET, an answer of 64 bytes, every policy on; a tenth of the origin's answers are 503, and are tried again",
            "/flaky",
            # No circuit opens of it, no budget ends, and the wait before the second try is as short as may be, since
            # nginx and HAProxy have none.
            settings={"FAILURES": 1_000_000, "BACKOFF": "0.001", "BUDGET": 100},
            refused=0.1,
        ),
        Work(
            "grpc",
            "unary calls of gRPC, HTTP/2 in plaintext on both sides, messages of 64 bytes, every policy on",
            "/bench.Bench/Call",
            port="LISTEN_GRPC",
            connections=H2_CONNECTIONS,
            h2load=("-d", "@FOLDER@/call", "-H", "content-type: application/grpc", "-H", "te: trailers"),
            # Not nginx 1.22: of calls over kept connections it fails some ("upstream sent frame for unknown stream").
            contestants=("mamparo", "haproxy", "envoy"),
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Result:
    """What one run of the load gave."""

    requests: int
    per_second: float
    p99_ms: float
    # Of the proxy for a request, in microseconds.
    cpu_us: float = 0.0
    # What the origin saw for a request.
    tries: float = 0.0
    # Connections that were opened to the origin.
    opened: int = 0

    def with_counts(self, seconds, opened, tries):
        """The same with the proxy's processor time, and with what the origin saw."""
        return dataclasses.replace(
            self, cpu_us=seconds * 1e6 / self.requests, tries=tries / self.requests, opened=opened
        )

    def __str__(self):
        return (
            f"{self.cpu_us:.1f} µs/request, {self.per_second:.0f} requests/s, p99 {self.p99_ms:.2f} ms, "
            f"{self.tries:.3f} tries/request, {self.opened} connections opened"
        )


def run(url, work, cores, seconds, folder):
    """Loads `url` for so many seconds. Answers that are not 2xx or 3xx, and errors on sockets, are failures of the
    measurement: a proxy that refuses is fast."""
    if work.h2load is not None:
        return _h2load(url, work, cores, seconds, folder)
    command = ["taskset", "-c", ",".join(map(str, cores)), "wrk", "--latency"]
    command += ["-t", str(min(len(cores), work.connections)), "-c", str(work.connections), "-d", f"{seconds}s"]
    if work.script:
        command += ["-s", str(HERE / work.script)]
    text = subprocess.run([*command, url], capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    completed = int(re.search(r"(\d+) requests in", text).group(1))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    # Where tries fail by chance, a request may be refused as often as it is tried: nginx tries each endpoint once.
    if "Socket errors" in text or int(refused.group(1) if refused else 0) > completed * work.refused**2 * 1.5:
        raise RuntimeError(f"the load met errors:\n{text}")
    if not completed:
        raise RuntimeError(f"the load got no answer:\n{text}")
    return Result(
        requests=completed,
        per_second=float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)),
        p99_ms=_milliseconds(re.search(r"99%\s+(\S+)", text).group(1)),
    )


def _h2load(url, work, cores, seconds, folder):
    """The same over HTTP/2. It has no percentiles, and no eye for trailers: one call is looked at before."""
    options = [option.replace("@FOLDER@", str(folder)) for option in work.h2load]
    if work.name == "grpc":
        command = ["nghttp", "-v", "-H", ":method: POST", *options, url]
        text = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
        if b"grpc-status: 0" not in text:
            raise RuntimeError(f"the call did not go well:\n{text.decode(errors='replace')}")
    command = ["taskset", "-c", ",".join(map(str, cores)), "h2load", "-D", str(seconds)]
    command += ["-t", str(len(cores)), "-c", str(work.connections), "-m", str(H2_STREAMS)]
    command += [*options, url]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    counted = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", text)
    done, succeeded, failed, errored = map(int, counted.groups())
    # nginx now and then takes an origin's last word on a call for a fault: one in tens of thousands.
    if errored or failed * 5000 > succeeded:
        raise RuntimeError(f"the load met errors:\n{text}")
    rate = float(re.search(r"finished in [^,]+, ([\d.]+) req/s", text).group(1))
    return Result(requests=done, per_second=rate, p99_ms=float("nan"))


def _milliseconds(text):
    """wrk's `870.00us`, `1.20ms`, `2.00s` and `1.00m` as milliseconds."""
    match = re.fullmatch(r"(-?[\d.]+|-?nan)(us|ms|s|m|h)", text)
    if match is None:  # wrk has no figure where no request was answered in time
        return float("nan")
    number, unit = match.groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4, "h": 3.6e6}[unit]
