"""Results as markdown, told as they come, and in the end what they say of the targets."""

import datetime
import math
import statistics

import targets


class Report:
    """Prints lines, and writes them into a file too where one is given, so that what is measured is not lost."""

    def __init__(self, output):
        self._output = output
        self._head, self._body = [], []
        # Of each work its ratios to the peers, by name; of each other goal what was measured, in words, and whether
        # that reaches it.
        self._ratios, self._goals = {}, {}
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)

    def say(self, *lines):
        """Adds lines."""
        for line in lines:
            print(line, flush=True)
        self._body += lines
        self._write(self._head + self._body)

    def _write(self, lines):
        if self._output:
            self._output.write_text("\n".join(lines).rstrip() + "\n")

    def table(self, head, rows):
        """A table whose first column is text and whose others are numbers."""
        self.say(*table(head, rows))

    def head(self, machine, versions):
        """When, where, and which versions."""
        self.say("# mamparo beside its peers", "", f"{datetime.date.today().isoformat()}, {machine}.")
        self.say(", ".join(f"{name} {version}" for name, version in versions.items()) + ".", "")
        self._head, self._body = self._body, []

    def reached(self, name, measured, words=None, target=None):
        """What was measured of a goal; `target` where it is not known beforehand."""
        goal = targets.GOALS[name]
        self._goals[name] = (words or f"{measured:.2f} {goal.unit}", goal.verdict(measured, target))

    def summary(self):
        """What has been reached. It goes to the end of what is printed, and to the beginning of the file."""
        lines = ["## Targets", ""]
        if self._ratios:
            lines += ["CPU time of mamparo for one request, divided by the other's in the same round; medians.", ""]
            rows = [[work, *targets.compared(work, ratios)] for work, ratios in self._ratios.items()]
            lines += table(["", *targets.PEERS], rows)
        if self._goals:
            rows = [
                [goal.what, self._goals[name][0], f"{'≥' if goal.at_least else '≤'} {goal.target} {goal.unit}"]
                + [self._goals[name][1]]
                for name, goal in targets.GOALS.items()
                if name in self._goals
            ]
            lines += table(["", "measured", "target", ""], rows)
        if len(lines) > 2:
            print("\n".join(lines), flush=True)
            self._write(self._head + lines + self._body)

    def work(self, work, place, results):
        """One work: the medians, and the ratio to the first contestant in each round."""
        self.say(f"## {work.name}: {work.what}", "", f"{place.remark}. {work.load}.", "")
        median = {
            name: {
                field: statistics.median(getattr(one, field) for one in rounds)
                for field in ("cpu_us", "per_second", "p99_ms", "tries", "opened")
            }
            for name, rounds in results.items()
        }
        self.table(
            ["", "CPU µs/request", "requests/s", "p99 ms", "tries/request", "connections opened"],
            [
                [name, f"{m['cpu_us']:.1f}", f"{m['per_second']:.0f}", known(m["p99_ms"]), f"{m['tries']:.2f}"]
                + [f"{m['opened']:.0f}"]
                for name, m in median.items()
            ],
        )
        first, *others = results
        if not others:
            return
        ratios = {
            other: [mine.cpu_us / theirs.cpu_us for mine, theirs in zip(results[first], results[other], strict=True)]
            for other in others
        }
        self.say(f"CPU of {first} for one request, divided by the other's, round by round:", "")
        self.table(
            ["", *(str(number + 1) for number in range(len(results[first]))), "median"],
            [
                [f"{first}/{other}", *(f"{ratio:.2f}" for ratio in row), f"{statistics.median(row):.2f}"]
                for other, row in ratios.items()
            ],
        )
        if first == "mamparo":
            self._ratios[work.name] = {other: statistics.median(row) for other, row in ratios.items()}

    def memory(self, found):
        """Resident memory when idle."""
        self.say(
            "## Idle memory",
            "",
            "Resident, two seconds after the first answer, summed over the processes: what nginx's two share counts "
            "in both.",
            "",
        )
        self.table(["", "MiB"], [[name, f"{size / 2**20:.1f}"] for name, size in found.items()])
        if "mamparo" in found:
            self.reached("idle", found["mamparo"] / 2**20)

    def start(self, found):
        """Time to the first answer."""
        self.say("## Start", "", "From exec to the first answer through the proxy, median of 10.", "")
        self.table(["", "ms"], [[name, f"{seconds * 1e3:.1f}"] for name, seconds in found.items()])
        if "mamparo" in found:
            self.reached("start", found["mamparo"] * 1e3)


def table(head, rows):
    """The lines of a table whose first column is text and whose others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def known(milliseconds):
    """A figure, or a dash where the load generator has none."""
    return "–" if math.isnan(milliseconds) else f"{milliseconds:.2f}"


def shares(times, base):
    """The median of what each is of `base` in the same round, by name."""
    return {
        name: statistics.median(a / b for a, b in zip(found, times[base], strict=True)) for name, found in times.items()
    }
