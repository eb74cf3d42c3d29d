"""What a second worker brings: the same load through one worker and through two."""

import contextlib
import dataclasses
import os
import statistics
import sys
import time
from pathlib import Path

import contestants
import load
import stage
from contestants import BY_NAME

SECONDS = 3
NAMES = ("mamparo", "nginx")
# A client with few connections is the one that a proxy with several workers serves unevenly. Over HTTP/2 each of them
# always has work, and load and origin are cheap beside the proxy.
WORKS = {
    "get64, 64 connections": load.WORKS["get64"],
    "get64, 4 connections": dataclasses.replace(load.WORKS["get64"], connections=4),
    "h2, 4 connections": dataclasses.replace(load.WORKS["h2"], connections=4),
}
GOALS = {"get64, 64 connections": "workers", "h2, 4 connections": "workers 4"}
# Two workers that were busy for so much of the time were not waiting for load or origin.
BUSY = 0.95


@dataclasses.dataclass(frozen=True)
class Round:
    """One run with so many workers."""

    per_second: float
    cpu_us: float
    # Of each worker, the busiest first, and of the processors that load and origin have: the share of the time.
    busy: tuple[float, ...]
    others: float


def measure(chosen, rounds, report, folder):
    """Interleaved rounds with one and with two workers. Load and origin share what processors are left, with as many
    workers, so that neither is the limit as long as the proxy is the dearest of the three."""
    cores, ports = sorted(os.sched_getaffinity(0)), contestants.ports()
    if len(cores) < 4:
        report.say("## Workers", "", "Not measured: two workers, load and origin need four cores.", "")
        return
    proxy, others = cores[1:3], [cores[0], *cores[3:]]
    found = {}
    with stage.origin(folder, ports, others, workers=len(others)):
        for number in range(rounds):
            for contestant in (BY_NAME[name] for name in NAMES if BY_NAME[name] in chosen):
                for name, work in WORKS.items():
                    for count in (1, 2):
                        result = one(contestant, work, proxy[:count], others, ports, folder)
                        found.setdefault((contestant.name, name), {1: [], 2: []})[count].append(result)
                        said = f"{contestant.name}, {name}, {count}: {result.per_second:.0f} requests/s"
                        print(f"workers round {number + 1}/{rounds} {said}", file=sys.stderr, flush=True)
    tell(found, report)


def one(contestant, work, proxy, others, ports, folder):
    """One round with as many workers as it has cores."""
    with stage.running(contestant, ports, folder, proxy, work.settings | {"WORKERS": len(proxy)}) as program:
        url = work.url(ports)
        load.run(url, work, others, 1, folder)
        before, threads, elsewhere = program.cpu_seconds(), thread_seconds(program), busy_seconds(others)
        begin = time.monotonic()
        result = load.run(url, work, others, SECONDS, folder)
        elapsed = time.monotonic() - begin
        used = program.cpu_seconds() - before
        after = thread_seconds(program)
        elsewhere = busy_seconds(others) - elsewhere
    shares = sorted(((after[key] - threads.get(key, 0)) / elapsed for key in after), reverse=True)
    return Round(result.per_second, used * 1e6 / result.requests, tuple(shares[: len(proxy)]), elsewhere / elapsed)


def thread_seconds(program):
    """The processor time of every thread of a program."""
    found = {}
    for pid in program.processes():
        for path in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found[path.name] = float((path / "schedstat").read_text().split()[0]) / 1e9
    return found


def busy_seconds(cores):
    """The time that so many processors were not idle, as a share of all of them."""
    used = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in {f"cpu{core}" for core in cores}:
            user, nice, system, _idle, _wait, interrupt, soft, *_ = map(int, ticks)
            used += user + nice + system + interrupt + soft
    return used / os.sysconf("SC_CLK_TCK") / len(cores)


def tell(found, report):
    """Both, and what they say of each other."""
    report.say(
        "## Workers: two beside one",
        "",
        "Medians. Load and origin share the other processors. Measured is what two workers did of what one did: the "
        f"truth where both were busy for {BUSY:.0%} of the time; where they were not, load or origin could not keep up "
        "with them, and what they could do is reckoned from how much dearer a request was with two, and from how "
        "evenly they were used.",
        "",
    )
    head = ["", "requests/s, one", "two", "measured", "CPU µs/request, one", "two", "busy, first", "second", "others"]
    rows, reached = [], {}
    for (contestant, work), rounds in found.items():
        one, two = ({field: middle(rounds[count], field) for field in ("per_second", "cpu_us")} for count in (1, 2))
        ratio = statistics.median(b.per_second / a.per_second for a, b in zip(rounds[1], rounds[2], strict=True))
        first, second = (statistics.median(result.busy[place] for result in rounds[2]) for place in (0, 1))
        reckoned = one["cpu_us"] / two["cpu_us"] * (first + second) / first
        rows.append(
            [f"{contestant}, {work}", f"{one['per_second']:.0f}", f"{two['per_second']:.0f}", f"{ratio:.2f}"]
            + [f"{one['cpu_us']:.1f}", f"{two['cpu_us']:.1f}", f"{first:.0%}", f"{second:.0%}"]
            + [f"{middle(rounds[2], 'others'):.0%}", f"{reckoned:.2f}"]
        )
        reached[contestant, work] = (ratio, "measured") if second >= BUSY else (reckoned, "reckoned")
    report.table([*head, "reckoned"], rows)
    for work, goal in GOALS.items():
        if ("mamparo", work) in reached:
            figure, how = reached["mamparo", work]
            report.reached(goal, figure, f"{figure:.2f} ×, {how}")


def middle(rounds, field):
    """The median over the rounds."""
    return statistics.median(getattr(result, field) for result in rounds)
