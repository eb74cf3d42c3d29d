"""An hour, or however long, of modest load of every kind, and whether memory stays what it was."""

import collections
import contextlib
import dataclasses
import os
import signal
import statistics
import subprocess
import sys
import time

import contestants
import crowd
import stage
from programs import get

# Ten times a second, so many of each kind: about five hundred requests a second with those of h2load.
BEAT = 0.1
KEPT = 20
H2LOAD = ("h2load", "-t", "1", "-c", "5", "-D")
H2LOAD_RATE = "10"  # of each of its connections
RELOAD = 30
GET = b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = b"POST /sink HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"


@dataclasses.dataclass
class Kind:
    """One kind of request: how many there are in ten seconds, what is sent, and whether on a connection of its own."""

    each_ten_seconds: int
    request: bytes
    port: str = "LISTEN"
    fresh: bool = False


KINDS = {
    "GET of 64 bytes": Kind(3000, GET % b"/64"),
    "GET, a tenth refused": Kind(400, GET % b"/flaky"),
    "POST of 4 KiB": Kind(400, POST % 4096 + bytes(4096)),
    "POST of 1 MiB": Kind(10, POST % (1 << 20) + bytes(1 << 20)),
    "GET of 1 MiB": Kind(10, GET % b"/1m"),
    "GET on a new connection": Kind(200, GET % b"/64", fresh=True),
    "GET over TLS": Kind(200, GET % b"/64", port="LISTEN_TLS"),
    "GET over new TLS": Kind(50, GET % b"/64", port="LISTEN_TLS", fresh=True),
}


class Load:
    """Everything that is sent from here, in turn, over connections that are kept."""

    def __init__(self, ports):
        self._ports = ports
        self._kept = collections.defaultdict(collections.deque)
        self._owed = dict.fromkeys(KINDS, 0.0)
        self.answers = collections.Counter()

    def beat(self):
        """What is due in a tenth of a second."""
        for name, kind in KINDS.items():
            self._owed[name] += kind.each_ten_seconds * BEAT / 10
            while self._owed[name] >= 1:
                self._owed[name] -= 1
                try:
                    self.answers[self._ask(kind)] += 1
                except (OSError, ValueError) as error:
                    self.answers[type(error).__name__] += 1

    def _ask(self, kind):
        """One request and the status of its answer."""
        kept = self._kept[kind.port]
        new = kind.fresh or len(kept) < KEPT
        connection = crowd.connect(self._ports[kind.port], kind.port == "LISTEN_TLS") if new else kept.popleft()
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            connection.sendall(kind.request)
            status = crowd.answered(connection)
            if not kind.fresh:
                kept.append(connection)
                stack.pop_all()
        return status

    def close(self):
        """Ends the connections."""
        for kept in self._kept.values():
            for connection in kept:
                connection.close()


class Settings:
    """The configuration, which changes twice a minute, and the access log, which is moved away as often."""

    def __init__(self, ports, folder):
        self._ports, self._folder = ports, folder
        self.reloads = 0

    def values(self):
        """Those of this generation. No circuit opens of the origin's refusals."""
        return contestants.LOGGED | {"FAILURES": 1000 + self.reloads % 2, "IN_FLIGHT": 1000 + self.reloads % 3}

    def next(self, program):
        """The next generation."""
        self.reloads += 1
        mamparo = contestants.BY_NAME["mamparo"]
        mamparo.write(self._ports, self._folder, self.values())
        mamparo.access_log(self._folder).unlink(missing_ok=True)
        program.signal(signal.SIGHUP)

    def applied(self):
        """How many of them the program has taken."""
        text = get(f"http://127.0.0.1:{self._ports['ADMIN']}/metrics")[2].decode()
        lines = (line for line in text.splitlines() if line.startswith("mamparo_config_reloads_total"))
        return sum(float(line.split()[-1]) for line in lines if 'result="applied"' in line)


def measure(seconds, report, folder):
    """Runs it, and tells the memory of each minute."""
    os.nice(5)
    ports = contestants.ports()
    settings, load, memory = Settings(ports, folder), Load(ports), []
    mamparo = contestants.BY_NAME["mamparo"]
    with (
        contextlib.closing(load),
        stage.origin(folder, ports),
        stage.running(mamparo, ports, folder, settings=settings.values()) as program,
        contextlib.ExitStack() as http2,
    ):
        begin = due = time.monotonic()
        while (now := time.monotonic() - begin) < seconds:
            if now >= settings.reloads * RELOAD + RELOAD:
                settings.next(program)
            if now >= len(memory):
                memory.append(program.resident_bytes())
                if len(memory) % 60 == 1:
                    start_http2(http2, ports, folder)
                    print(f"soak, second {len(memory)}: {memory[-1] / 2**20:.2f} MiB", file=sys.stderr, flush=True)
            load.beat()
            # What was missed while the machine was busy is not made up for.
            due = max(due + BEAT, time.monotonic())
            time.sleep(due - time.monotonic() if due > time.monotonic() else 0)
        applied = settings.applied()
    tell(memory, load.answers, settings.reloads, applied, report)


def start_http2(running, ports, folder):
    """A minute of HTTP/2 and of gRPC, on new connections, when those of the minute before have ended."""
    running.close()
    grpc = ("-d", folder / "call", "-H", "content-type: application/grpc", "-H", "te: trailers")
    for port, path, options in (("LISTEN_H2", "/64", ()), ("LISTEN_GRPC", "/bench.Bench/Call", grpc)):
        command = [*H2LOAD, "55", "--rps", H2LOAD_RATE, *options, f"http://127.0.0.1:{ports[port]}{path}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.callback(process.wait)
        running.callback(process.kill)


def tell(memory, answers, reloads, applied, report):
    """Each minute, and what has been added after a first quarter for warming up: the median of the last third of what
    is left beside that of its first third, since what happens to be in flight moves memory a little."""
    said = ", ".join(f"{count} of {name}" for name, count in answers.most_common())
    report.say(
        f"## Soak: {len(memory)} s of about 500 requests/s of every kind, a new configuration every {RELOAD} s",
        "",
        f"Answers by status, without those of HTTP/2: {said}. {applied:.0f} of {reloads} configurations were applied. "
        "Resident memory in MiB:",
        "",
    )
    minutes = [memory[at : at + 60] for at in range(0, len(memory), 60)]
    rows = [
        [str(number + 1), *(f"{figure(minute) / 2**20:.2f}" for figure in (min, statistics.median, max))]
        for number, minute in enumerate(minutes)
    ]
    report.table(["minute", "least", "median", "most"], rows)
    warm = memory[len(memory) // 4 :]
    third = max(1, len(warm) // 3)
    early, late = statistics.median(warm[:third]), statistics.median(warm[-third:])
    growth = (late / early - 1) * 100
    report.reached("flat", growth, f"{growth:+.1f} %, {(late - early) / 2**10:+.0f} KiB")
