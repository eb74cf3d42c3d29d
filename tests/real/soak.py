"""The soak: load of every kind, upstreams that fall over, a new configuration every second; then quiet.

What is asserted is what must be true once all is quiet: no seat, connection, task, replay byte or file descriptor is
left behind, nothing panicked, memory did not grow, no charge was made twice, and every request was counted once.
"""

import argparse
import asyncio
import collections
import contextlib
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import soak_clients
import soak_trouble
from programs import end_cleanly_when_told, wait_until
from services import App, Mamparo, Relay, executions, sum_of

# Memory may move a little with what happens to be in flight: the median of the last third of the run may exceed that of
# the third before it by a tenth and 4 MiB. The first third (at most the first minute) is warming up.
GROWTH, SLACK = 1.10, 4 << 20


class Soaked(Mamparo):
    """mamparo with the soak's configuration instead of the tests' usual one."""

    def __init__(self, folder, apps, relays):
        super().__init__(folder, [])
        self.write(soak_trouble.calm(self, apps, relays))


def left_over(proxy, baseline):
    """What is still alive that was not before the load, by name; empty when all is quiet."""
    status = proxy.status()
    found = {
        "client connections": sum(listener["connections"] for listener in status["listeners"]),
        "connections of workers": sum(worker["connections"] for worker in status["process"]["workers"]),
        "tasks": tasks(status) - baseline["tasks"],
        "replay bytes": status["replay"]["bytes_used"],
        "file descriptors": settled_files(proxy) - baseline["files"],
    }
    for upstream in status["upstreams"]:
        name = upstream["name"]
        found[f"seats of {name}"] = upstream["bulkhead"]["in_flight"]
        found[f"queue of {name}"] = upstream["bulkhead"]["queued"]
        found[f"active connections to {name}"] = upstream["connections"]["active"]
        found[f"idle connections to {name}"] = upstream["connections"]["idle"]
        for endpoint in upstream["endpoints"]:
            found[f"in flight at {name} {endpoint['address']}"] = endpoint["in_flight"]
            found[f"draining endpoints of {name}"] = endpoint["draining"]
    return {name: count for name, count in found.items() if count}


def settled_files(proxy):
    """Open file descriptors, a moment after our own question to the admin interface has been answered."""
    time.sleep(0.1)
    return proxy.open_files()


def tasks(status):
    """Tasks alive on all workers."""
    return sum(worker["tasks"] for worker in status["process"]["workers"])


async def load(proxy, apps, relays, seconds, seed):
    """Everything at once for so long; what was sent, what was done, and the memory once a second."""
    stop, tally, done, memory = asyncio.Event(), soak_clients.Tally(), collections.Counter(), []
    draws = (random.Random(f"{seed}-{number}") for number in range(1 << 16))
    running = [
        asyncio.create_task(kind(proxy.port, next(draws), tally, stop).run())
        for kind, count in soak_clients.KINDS.items()
        for _ in range(count)
    ]
    running.append(asyncio.create_task(soak_trouble.upset(apps, next(draws), stop, done)))
    running.append(asyncio.create_task(soak_trouble.reconfigure(proxy, apps, relays, next(draws), stop, done)))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(1)
        memory.append(proxy.resident_bytes())
        for task in running:
            if task.done():
                task.result()
        assert proxy.running(), f"mamparo ended:\n{proxy.output()[-3000:]}"
    stop.set()
    await asyncio.gather(*running)
    return tally, done, memory


def grown(memory):
    """The medians of the middle and the last part of the run in MiB, and whether the second is too much."""
    warm = min(len(memory) // 3, 60)
    rest = memory[warm:]
    middle, last = statistics.median(rest[: len(rest) // 2]), statistics.median(rest[len(rest) // 2 :])
    return middle / 2**20, last / 2**20, last > middle * GROWTH + SLACK


def busy(proxy):
    """The share of a core that mamparo uses over a second."""
    before = proxy.cpu_seconds()
    time.sleep(1)
    return proxy.cpu_seconds() - before


def verdicts(proxy, folder, tally, memory, baseline):
    """Prints the figures; every complaint in words."""
    complaints = []
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not left_over(proxy, baseline), 15, "quiet")
    if left := left_over(proxy, baseline):
        complaints.append(f"left over: {left}")

    metrics = proxy.metrics()
    counted = sum_of(metrics, "mamparo_requests_total")
    print(f"requests: {tally.sure} answered, {tally.maybe} left before an answer; mamparo counted {counted:.0f}")
    if not tally.sure <= counted <= tally.sure + tally.maybe:
        complaints.append("the counts do not reconcile")
    gone = sum_of(metrics, "mamparo_requests_total", outcome="client_gone")
    print(f"clients that left, as mamparo saw it: {gone:.0f}")
    if not gone:
        complaints.append("no client that left was counted")
    print("answers by status:", dict(sorted(tally.statuses.items())))
    for name in ("retries", "fallbacks", "circuit_breaker_transitions", "bulkhead_refused", "config_reloads"):
        print(f"{name}: {sum_of(metrics, f'mamparo_{name}_total'):.0f}")
    for result in ("applied", "refused"):
        if not sum_of(metrics, "mamparo_config_reloads_total", result=result):
            complaints.append(f"no reload was {result}")

    charged = executions(folder)
    if twice := {name for name, attempts in charged.items() if len(attempts) > 1}:
        complaints.append(f"executed more than once: {sorted(twice)[:10]}")
    if unpaid := tally.charged - charged.keys():
        complaints.append(f"answered, yet not executed: {sorted(unpaid)[:10]}")
    print(f"charges: {len(charged)} executed, {len(tally.charged)} answered")

    middle, last, too_much = grown(memory)
    print(
        f"memory: {memory[0] / 2**20:.1f} MiB after a second, then {middle:.1f}, at last {last:.1f}, "
        f"at most {max(memory) / 2**20:.1f}"
    )
    if too_much:
        complaints.append("memory grew")
    if (share := busy(proxy)) > 0.1:
        complaints.append(f"busy with nothing to do: {share:.0%} of a core")
    if "panicked at" in proxy.output():
        complaints.append("panicked: " + proxy.output().partition("panicked at")[2][:500])
    proxy.signal(signal.SIGTERM)
    if (code := proxy.wait(40)) != 0:
        complaints.append(f"exit code {code} after SIGTERM")
    return complaints


def soak(folder, seconds, seed):
    """Runs it all; every complaint in words."""
    with contextlib.ExitStack() as stack:
        apps = [stack.enter_context(App(folder)) for _ in range(3)]
        relays = [stack.enter_context(Relay(folder, app.port, seed)) for app in apps]
        proxy = stack.enter_context(Soaked(folder, apps, relays))
        baseline = {"tasks": tasks(proxy.status()), "files": settled_files(proxy)}
        tally, done, memory = asyncio.run(load(proxy, apps, relays, seconds, seed))
        print("done:", dict(done))
        proxy.write(soak_trouble.calm(proxy, apps, relays))
        assert soak_trouble.order_reload(proxy) == 200
        complaints = verdicts(proxy, folder, tally, memory, baseline)
        if complaints:
            print(f"the end of the log:\n{proxy.output()[-4000:]}")
        return complaints


def main():
    """Reads the command line; exits with 1 if there are complaints."""
    end_cleanly_when_told()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"soak: {options.seconds} s, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        complaints = soak(Path(folder), options.seconds, options.seed)
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
