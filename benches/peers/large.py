"""A large configuration: a thousand upstreams of ten endpoints with ten routes each. How long a start, a reload and a
scrape take, what memory they leave, and whether the traffic feels them."""

import contextlib
import http.client
import json
import re
import statistics
import subprocess
import sys
import time

import contestants
import machine
import stage
from contestants import HERE
from programs import Program, render, wait_until

UPSTREAMS, ENDPOINTS, ROUTES = 1000, 10, 10
STARTS, RELOADS, SCRAPES = 5, 10, 5
RATE, CONNECTIONS, SECONDS = 2000, 16, 6
# How long mamparo waits after the last change of a file before it reads it.
QUIET = 0.1


def measure(chosen, _rounds, report, folder):
    """Starts, then one process through reloads and scrapes under a steady load. mamparo alone: the others have no
    reload within a process that could be compared."""
    if "mamparo" not in [contestant.name for contestant in chosen]:
        return
    place, ports = machine.place(), contestants.ports()
    contestants.build("steady")
    large = Large(ports, folder)
    with stage.origin(folder, ports, place.origin):
        starts = [large.first_answer() for _ in range(STARTS)]
        with large.running(place.proxy) as program:
            time.sleep(2)
            memory = [program.resident_bytes()]
            load = {"before": steady(ports, place)}
            with subprocess.Popen(command(ports, place), stdout=subprocess.PIPE, text=True) as process:
                by_file = [large.by_file() for _ in range(RELOADS)]
                load["ten reloads"] = json.loads(process.communicate(timeout=SECONDS + 30)[0])
            by_order = [large.by_order() for _ in range(RELOADS)]
            time.sleep(2)
            memory.append(program.resident_bytes())
            with subprocess.Popen(command(ports, place), stdout=subprocess.PIPE, text=True) as process:
                scrapes = [large.scrape() for _ in range(SCRAPES)]
                load["five scrapes"] = json.loads(process.communicate(timeout=SECONDS + 30)[0])
            load["after"] = steady(ports, place)
            time.sleep(2)
            memory.append(program.resident_bytes())
    tell(report, starts, by_file, by_order, scrapes, memory, load)


def command(ports, place):
    """A steady load of a few seconds through the last of all routes."""
    address = f"127.0.0.1:{ports['LISTEN']}"
    arguments = [contestants.example("steady"), address, "/64", str(RATE), str(CONNECTIONS), str(SECONDS)]
    return ["taskset", "-c", ",".join(map(str, place.load)), *map(str, arguments)]


def steady(ports, place):
    """One run of that load, with nothing beside it."""
    return json.loads(subprocess.run(command(ports, place), stdout=subprocess.PIPE, text=True, check=True).stdout)


class Large:
    """The configuration, and the process that runs it."""

    def __init__(self, ports, folder):
        self._ports = ports
        self._folder = folder / "large"
        self._folder.mkdir()
        self._config = self._folder / "mamparo.yaml"
        self._number = 0
        self._write()

    def _write(self):
        """The next configuration: every upstream and every route has another timeout, and a route of its own says
        which configuration a request runs under."""
        self._number += 1
        values = self._ports | {"NUMBER": self._number, "REQUEST": f"{10 + self._number}s"}
        text = render(HERE / "large.yaml", values | {"ROUTES": routes(), "UPSTREAMS": upstreams()})
        # As an editor does it, so that no half of a file is ever there.
        with_new_content = self._folder / "next"
        with_new_content.write_text(text)
        with_new_content.rename(self._config)

    @contextlib.contextmanager
    def running(self, cores=None):
        """The process, started; it need not answer yet."""
        binary = contestants.BY_NAME["mamparo"].binary()
        log = self._folder.parent / "large.out"
        with Program([binary, "run", "--config", self._config], log, cores) as program:
            wait_until(self._in_use, 15, "the large configuration is in use", pause=0.001)
            yield program

    def first_answer(self):
        """Seconds from exec to the first answer."""
        begin = time.monotonic()
        with self.running():
            return time.monotonic() - begin

    def _in_use(self):
        """Whether a request runs under the newest configuration."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._get("LISTEN", "/number") == str(self._number).encode()

    def _get(self, port, path, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[port], timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path)
            return connection.getresponse().read()

    def by_file(self):
        """Seconds from a file's change until requests run under it, less the time that it must have been left alone."""
        self._write()
        begin = time.monotonic()
        wait_until(self._in_use, 15, "the changed file is in use", pause=0.005)
        took = time.monotonic() - begin - QUIET
        time.sleep(0.2)
        return took

    def by_order(self):
        """Seconds from an order to reload until its answer, which says what has changed too."""
        self._write()
        begin = time.monotonic()
        answer = json.loads(self._get("ADMIN", "/api/v1/reload", "POST"))
        took = time.monotonic() - begin
        if answer["result"] == "refused":
            raise RuntimeError(f"refused: {answer['problems'][:3]}")
        # The file's change is heard of too: it must have been found to be nothing new before the next one.
        time.sleep(QUIET * 3)
        return took

    def scrape(self):
        """Seconds that the metrics take, and their bytes."""
        begin = time.monotonic()
        text = self._get("ADMIN", "/metrics")
        if not re.search(rb"^mamparo_config_generation \d+$", text, re.MULTILINE):
            raise RuntimeError("these are no metrics")
        return time.monotonic() - begin, len(text)


def routes():
    """Ten for each upstream."""
    route = "      - {{ name: u{0}-{1}, match: {{ host: u{0}.internal, path_prefix: /{1} }}, upstream: u{0} }}"
    return "\n".join(route.format(number, path) for number in range(UPSTREAMS) for path in range(ROUTES))


def upstreams():
    """Ten endpoints each; no request goes to them."""

    def endpoints(number):
        return ", ".join(f"127.1.{number % 250}.{place}:{1 + number}" for place in range(ENDPOINTS))

    return "\n".join(f"  u{number}: {{ endpoints: [{endpoints(number)}] }}" for number in range(UPSTREAMS))


def tell(report, starts, by_file, by_order, scrapes, memory, load):
    """The tables, and what they say of the goals."""
    report.say(
        f"## Large: {UPSTREAMS} upstreams × {ENDPOINTS} endpoints × {ROUTES} routes",
        "",
        f"A start until the first answer. A reload changes a setting of every route: from the file's change until "
        f"requests run under it, less the {QUIET * 1e3:.0f} ms for which a file must have been left alone; and from an "
        "order until its answer, which lists the changes. A scrape of all metrics.",
        "",
    )
    times = {"start": starts, "reload by file": by_file, "reload by order": by_order}
    times["scrape"] = [seconds for seconds, _size in scrapes]
    rows = [
        [name, str(len(all)), f"{statistics.median(all) * 1e3:.0f}", f"{max(all) * 1e3:.0f}"]
        for name, all in times.items()
    ]
    report.table(["", "times", "median ms", "longest ms"], rows)
    report.say(f"The metrics are {scrapes[0][1] / 2**20:.1f} MiB.", "")
    names = ("after the start", f"after {2 * RELOADS} reloads", f"after {SCRAPES} scrapes")
    report.table(["resident", "MiB"], [[name, f"{size / 2**20:.0f}"] for name, size in zip(names, memory, strict=True)])
    report.say(
        f"The traffic meanwhile: {RATE} requests/s over {CONNECTIONS} connections for {SECONDS} s, through the last of "
        "the routes; µs from when a request was due.",
        "",
    )
    figures = ("p50", "p99", "p999", "unanswered")
    rows = [[name, *(f"{found[figure]:.0f}" for figure in figures)] for name, found in load.items()]
    report.table(["", "p50", "p99", "p99.9", "not answered in time"], rows)
    print(f"reloads by file: {' '.join(f'{took * 1e3:.0f}' for took in by_file)} ms", file=sys.stderr)
    report.reached("large start", statistics.median(starts) * 1e3)
    report.reached("large reload", statistics.median(by_file) * 1e3)
    quiet = max(load["before"]["p99"], load["after"]["p99"])
    words = f"{load['ten reloads']['p99']:.0f} µs, {quiet:.0f} µs without"
    report.reached("large tail", load["ten reloads"]["p99"] / quiet, words)
