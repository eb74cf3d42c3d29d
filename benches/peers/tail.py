"""How late the slowest answers come at a modest, fixed rate, measured from when each request was due."""

import json
import statistics
import subprocess
import sys

import contestants
import load
import machine
import stage

# Many short rounds: one burst of something else on the machine spoils one of them.
ROUNDS, SECONDS = 2, 2
CONNECTIONS = 64
FIGURES = ("p50", "p99", "p999")
# Where an answer waits for the load itself, its lateness says nothing of the proxy.
SLOW_LOAD = 100


def measure(chosen, rounds, report, folder):
    """Interleaved rounds of the origin alone and of each proxy in front of it, at half of what nginx sustains."""
    place, ports = machine.place(), contestants.ports()
    if len({*place.load, *place.origin, *place.proxy}) < 3:
        report.say("## Tail", "", "Not measured: load, proxy and origin need a core each.", "")
        return
    contestants.build("steady")
    found = {name: [] for name in ("origin alone", *(contestant.name for contestant in chosen))}
    with stage.origin(folder, ports, place.origin):
        rate = round(sustained(place, ports, folder) / 2)
        for number in range(rounds * ROUNDS):
            found["origin alone"].append(steady(ports["ORIGIN_A"], rate, place))
            for contestant in chosen:
                with stage.running(contestant, ports, folder, place.proxy):
                    found[contestant.name].append(steady(ports["LISTEN"], rate, place))
            said = ", ".join(f"{name} {results[-1]['p99']:.0f} µs" for name, results in found.items())
            print(f"tail round {number + 1}/{rounds * ROUNDS}, p99: {said}", file=sys.stderr, flush=True)
    tell(rate, found, report)


def sustained(place, ports, folder):
    """Requests per second that nginx can do: the median of three runs."""
    work, nginx = load.WORKS["get64"], contestants.BY_NAME["nginx"]
    return statistics.median(stage.measure(nginx, work, place, ports, folder, 3).per_second for _ in range(3))


def steady(port, rate, place):
    """One run, warmed up before, as microseconds."""
    cores = ",".join(map(str, place.load))
    command = ["taskset", "-c", cores, contestants.example("steady"), f"127.0.0.1:{port}", "/64", str(rate)]

    def run(seconds):
        arguments = [*command, str(CONNECTIONS), str(seconds)]
        return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout

    run(1)
    return json.loads(run(SECONDS))


def tell(rate, found, report):
    """The percentiles, and what each proxy adds to the origin's."""
    direct = found.pop("origin alone")
    report.say(
        f"## Tail: {rate} requests/s, half of what nginx sustains",
        "",
        f"Evenly spaced over {CONNECTIONS} connections for {SECONDS} s in each round; µs from when a request was due "
        "until its answer was there, so that what waits for a slow answer counts too. Added is what the origin alone "
        "does not take, in the same round. Medians over the rounds.",
        "",
    )
    rows = [row("origin alone", direct, ["–"])]
    added = {name: statistics.median(over(results, direct)) for name, results in found.items()}
    rows += [row(name, results, [f"{added[name]:.0f}"]) for name, results in found.items()]
    report.table(["", "p50", "p99", "p99.9", "p99 added", "sent late, p99", "not answered in time"], rows)
    if median(direct, "late_p99") > SLOW_LOAD:
        report.say("The load itself was late: this machine is too busy for these figures.", "")
        return
    if "mamparo" in added and "haproxy" in added:
        ratio = added["mamparo"] / added["haproxy"]
        words = f"{added['mamparo']:.0f} µs, {ratio:.2f} of HAProxy's"
        report.reached("tail", ratio, words)


def over(results, direct):
    """What is added to the origin's p99 in each round."""
    return [result["p99"] - alone["p99"] for result, alone in zip(results, direct, strict=True)]


def row(name, results, added):
    """A row of the table."""
    figures = [f"{median(results, figure):.0f}" for figure in FIGURES]
    late, unanswered = median(results, "late_p99"), median(results, "unanswered")
    return [name, *figures, *added, f"{late:.0f}", f"{unanswered:.0f}"]


def median(results, figure):
    """Over the rounds."""
    return statistics.median(result[figure] for result in results)
