"""Results as markdown, told as they come."""

import datetime
import math
import statistics


class Report:
    """Prints lines, and writes them into a file too where one is given, so that what is measured is not lost."""

    def __init__(self, output):
        self._output = output and output.open("w")

    def _say(self, *lines):
        for line in lines:
            print(line, flush=True)
            if self._output:
                print(line, file=self._output, flush=True)

    def _table(self, head, rows):
        """A table whose first column is text and whose others are numbers."""
        self._say("| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1))
        for row in rows:
            self._say("| " + " | ".join(row) + " |")
        self._say("")

    def head(self, machine, versions):
        """When, where, and which versions."""
        self._say("# mamparo beside its peers", "", f"{datetime.date.today().isoformat()}, {machine}.")
        self._say(", ".join(f"{name} {version}" for name, version in versions.items()) + ".", "")

    def work(self, work, place, results):
        """One work: the medians, and the ratio to the first contestant in each round."""
        self._say(f"## {work.name}: {work.what}", "", f"{place.remark}. {work.load}.", "")
        median = {
            name: {
                field: statistics.median(getattr(one, field) for one in rounds)
                for field in ("cpu_us", "per_second", "p99_ms")
            }
            for name, rounds in results.items()
        }
        self._table(
            ["", "CPU µs/request", "requests/s", "p99 ms"],
            [[name, f"{m['cpu_us']:.1f}", f"{m['per_second']:.0f}", _known(m["p99_ms"])] for name, m in median.items()],
        )
        first, *others = results
        if others:
            self._say(f"CPU of {first} for one request, divided by the other's, round by round:", "")
            self._table(
                ["", *(str(n + 1) for n in range(len(results[first]))), "median"],
                [_ratios(results[first], results[other], f"{first}/{other}") for other in others],
            )

    def memory(self, found):
        """Resident memory when idle."""
        self._say(
            "## Idle memory",
            "",
            "Resident, two seconds after the first answer, summed over the processes: what nginx's two share counts "
            "in both.",
            "",
        )
        self._table(["", "MiB"], [[name, f"{size / 2**20:.1f}"] for name, size in found.items()])

    def crowd(self, size, found):
        """What idle connections cost."""
        self._say(
            "## Idle connections",
            "",
            f"{size} connections that have had one answer each: resident memory for one, and the CPU time of a request "
            "without and beside them.",
            "",
        )
        rows = [
            [f"{name}, {kind}", f"{memory / 1024:.1f}", f"{row['alone', kind]:.1f}", f"{row['beside', kind]:.1f}"]
            for name, row in found.items()
            for (what, kind), memory in row.items()
            if what == "memory"
        ]
        self._table(["", "KiB each", "µs/request alone", "µs/request beside them"], rows)

    def start(self, found):
        """Time to the first answer."""
        self._say("## Start", "", "From exec to the first answer through the proxy, median of 10.", "")
        self._table(["", "ms"], [[name, f"{seconds * 1e3:.1f}"] for name, seconds in found.items()])


def _known(milliseconds):
    """A figure, or a dash where the load generator has none."""
    return "–" if math.isnan(milliseconds) else f"{milliseconds:.2f}"


def _ratios(mine, theirs, name):
    """A row of ratios: one for each round, and their median."""
    ratios = [a.cpu_us / b.cpu_us for a, b in zip(mine, theirs, strict=True)]
    return [name, *(f"{ratio:.2f}" for ratio in ratios), f"{statistics.median(ratios):.2f}"]
