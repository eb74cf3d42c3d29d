"""What each policy costs: each of them alone, and all, against a configuration with none."""

import dataclasses
import re
import shutil
import signal
import socket
import statistics
import sys

import contestants
import load
import machine
import stage
import table
from programs import Program

ALONE = {
    "retry": "retry: {}",
    "circuit_breaker": "circuit_breaker: {}",
    "bulkhead": "bulkhead: { max_in_flight: 1000, max_connections: 1000, max_queue: 100 }",
    "rate_limit": "rate_limit: { per_second: 1000000, burst: 100000 }",
    "fallback": 'fallback: [{ on: [any], respond: { status: 503, body: "unavailable" } }]',
}
# Times scatter by more than most policies take: many short rounds instead of a few long ones.
ROUNDS, SECONDS = 2, 2
# Requests under valgrind: what the longer run takes more is theirs alone.
FEW, MANY = 500, 3500
REQUEST = b"GET /64 HTTP/1.1\r\nhost: localhost\r\n\r\n"


def variants():
    """The configurations by name."""
    chosen = {"none": [], **{name: [line] for name, line in ALONE.items()}, "all": list(ALONE.values())}
    for name, lines in chosen.items():
        settings = {"POLICIES": "".join(f"    {line}\n" for line in lines)}
        yield dataclasses.replace(contestants.PASSTHROUGH, name=f"mamparo-{name}", settings=settings)


def measure(chosen, rounds, report, folder):
    """Times in interleaved rounds, and instructions where valgrind is there."""
    if contestants.BY_NAME["mamparo"] not in chosen:
        return
    place, ports, work = machine.place(), contestants.ports(), load.WORKS["get64"]
    times, counts = {}, {}
    with stage.origin(folder, ports, place.origin):
        for number in range(rounds * ROUNDS):
            for variant in variants():
                result = stage.measure(variant, work, place, ports, folder, SECONDS)
                times.setdefault(variant.name, []).append(result.cpu_us)
            said = ", ".join(f"{name} {found[-1]:.1f}" for name, found in times.items())
            print(f"policies round {number + 1}/{rounds * ROUNDS}, µs/request: {said}", file=sys.stderr, flush=True)
        if shutil.which("valgrind"):
            counts = {variant.name: instructions(variant, ports, folder) for variant in variants()}
    tell(times, counts, rounds * ROUNDS, report)


def instructions(variant, ports, folder):
    """Instructions of the program itself for one request, one at a time on one connection."""
    few, many = (executed(variant, ports, folder, requests) for requests in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def executed(variant, ports, folder, requests):
    """Instructions of a whole run with so many requests."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    log = folder / "valgrind.out"
    log.unlink(missing_ok=True)
    with Program([*command, *variant.command(ports, folder)], log) as program:
        program.answers(f"http://127.0.0.1:{ports['LISTEN']}/64", 60)
        ask(ports["LISTEN"], requests)
        program.signal(signal.SIGTERM)
        program.wait(60)
        return int(re.search(r"I +refs: +([\d,]+)", program.output()).group(1).replace(",", ""))


def ask(port, requests):
    """Sends so many requests, each when the one before it is answered."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        for _ in range(requests):
            connection.sendall(REQUEST)
            answer = connection.recv(4096)
            while not answer.endswith(b"\r\n\r\n" + BODY):
                more = connection.recv(4096)
                if not more:
                    raise ConnectionError("the connection ended within an answer")
                answer += more


# What the origin answers.
BODY = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n"


def tell(times, counts, rounds, report):
    """Each beside the one without policies."""
    report.say(
        "## Policies: what each costs alone, and all of them",
        "",
        f"Against timeouts alone, in {rounds} interleaved rounds of {SECONDS} s: CPU µs for a request, and the median "
        "of what it is of the one without policies in the same round. A difference below some hundredths is noise. "
        "Instructions are those of the program itself, as valgrind counts them, for requests one at a time: of what "
        "the system does they have nothing.",
        "",
    )
    none, *_ = times
    shares = table.shares(times, none)
    rows = []
    for name, found in times.items():
        row = [name.removeprefix("mamparo-"), f"{statistics.median(found):.1f}", f"{shares[name]:.3f}"]
        if counts:
            row += [f"{counts[name]:.0f}", f"{counts[name] / counts[none]:.3f}"]
        rows.append(row)
    head = ["", "CPU µs/request", "of none"] + (["instructions/request", "of none"] if counts else [])
    report.table(head, rows)
    report.reached("policies", shares["mamparo-all"], f"{shares['mamparo-all']:.3f} ×")
