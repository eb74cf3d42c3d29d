"""What it costs to tell of requests: the recorder behind `explain`, and spans of a tenth of all requests, against a
configuration with neither."""

import contextlib
import dataclasses
import http.server
import os
import statistics
import sys
import threading

import contestants
import load
import machine
import stage
import table

EXPLAIN = "explain: {}"
TRACING = "tracing: { otlp: http://127.0.0.1:@COLLECTOR@, keep: { rest: 10% } }"
VARIANTS = {"neither": ["explain: off"], "explain": [EXPLAIN], "tracing": ["explain: off", TRACING]}
VARIANTS["both"] = [EXPLAIN, TRACING]
# Times scatter by more than this takes: many short rounds instead of a few long ones.
ROUNDS, SECONDS = 2, 2


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes every batch of spans, and counts them and their bytes."""

    protocol_version = "HTTP/1.1"
    batches = received = 0

    def do_POST(self):
        """A batch."""
        length = int(self.headers["content-length"])
        self.rfile.read(length)
        Collector.batches += 1
        Collector.received += length
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Nothing is printed."""


@contextlib.contextmanager
def collector(cores):
    """A collector that answers at once, on the cores of the origin."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)

    def serve():
        os.sched_setaffinity(0, cores)
        server.serve_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def measure(chosen, rounds, report, folder):
    """Interleaved rounds of each."""
    if contestants.BY_NAME["mamparo"] not in chosen:
        return
    place, ports, work = machine.place(), contestants.ports(), load.WORKS["get64"]
    times = {name: [] for name in VARIANTS}
    with stage.origin(folder, ports, place.origin), collector(place.origin) as port:
        for number in range(rounds * ROUNDS):
            for name, lines in VARIANTS.items():
                told = "\n".join(lines).replace("@COLLECTOR@", str(port))
                variant = dataclasses.replace(
                    contestants.BY_NAME["mamparo"], name=f"mamparo-{name}", settings={"TOLD": told}
                )
                before = Collector.received
                times[name].append(stage.measure(variant, work, place, ports, folder, SECONDS).cpu_us)
                if (Collector.received > before) != (TRACING in lines):
                    raise RuntimeError(f"with {name}, the collector has got {Collector.received - before} bytes")
            said = ", ".join(f"{name} {found[-1]:.1f}" for name, found in times.items())
            print(f"telling round {number + 1}/{rounds * ROUNDS}, µs/request: {said}", file=sys.stderr, flush=True)
    tell(times, rounds * ROUNDS, report)


def tell(times, rounds, report):
    """Each beside the one that tells nothing."""
    report.say(
        "## Telling: what the recorder of `explain` costs, and spans of a tenth of all requests",
        "",
        f"In {rounds} interleaved rounds of {SECONDS} s: CPU µs for a request, and the median of what it is of the one "
        "with neither in the same round. A difference below some hundredths is noise.",
        "",
    )
    shares = table.shares(times, "neither")
    rows = [[name, f"{statistics.median(found):.1f}", f"{shares[name]:.3f}"] for name, found in times.items()]
    report.table(["", "CPU µs/request", "of neither"], rows)
    report.reached("telling", shares["both"], f"{shares['both']:.3f} ×")
