"""The works that can be measured, and the load generator that drives them."""

import dataclasses
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONNECTIONS = 64
EVERY_POLICY = ("mamparo", "nginx", "haproxy", "envoy")


@dataclasses.dataclass(frozen=True)
class Work:
    """One kind of request, and who is measured doing it. The first contestant is the one compared with the rest."""

    name: str
    what: str
    path: str
    contestants: tuple[str, ...] = EVERY_POLICY
    script: str | None = None


WORKS = {
    work.name: work
    for work in (
        Work("get64", "GET, an answer of 64 bytes, every policy on", "/64"),
        Work("post4k", "POST of 4 KiB, an answer of 64 bytes, every policy on", "/64", script="post4k.lua"),
        Work("get1m", "GET, an answer of 1 MiB, every policy on", "/1m"),
        Work(
            "passthrough",
            "what the policies cost: mamparo with all and with none",
            "/64",
            contestants=("mamparo", "mamparo-passthrough"),
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Result:
    """What one run of the load gave."""

    requests: int
    per_second: float
    p99_ms: float
    cpu_us: float = 0.0

    def with_cpu(self, seconds):
        """The same with the proxy's processor time for each request."""
        return dataclasses.replace(self, cpu_us=seconds * 1e6 / self.requests)

    def __str__(self):
        return f"{self.cpu_us:.1f} µs/request, {self.per_second:.0f} requests/s, p99 {self.p99_ms:.2f} ms"


def run(url, work, cores, seconds):
    """Loads `url` with wrk for so many seconds. Answers that are not 2xx or 3xx, and errors on sockets, are failures of
    the measurement: a proxy that refuses is fast."""
    command = ["taskset", "-c", ",".join(map(str, cores)), "wrk", "--latency"]
    command += ["-t", str(len(cores)), "-c", str(CONNECTIONS), "-d", f"{seconds}s"]
    if work.script:
        command += ["-s", str(HERE / work.script)]
    text = subprocess.run([*command, url], capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"the load met errors:\n{text}")
    completed = int(re.search(r"(\d+) requests in", text).group(1))
    if not completed:
        raise RuntimeError(f"the load got no answer:\n{text}")
    return Result(
        requests=completed,
        per_second=float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)),
        p99_ms=_milliseconds(re.search(r"99%\s+(\S+)", text).group(1)),
    )


def _milliseconds(text):
    """wrk's `870.00us`, `1.20ms`, `2.00s` and `1.00m` as milliseconds."""
    match = re.fullmatch(r"(-?[\d.]+|-?nan)(us|ms|s|m|h)", text)
    if match is None:  # wrk has no figure where no request was answered in time
        return float("nan")
    number, unit = match.groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4, "h": 3.6e6}[unit]
