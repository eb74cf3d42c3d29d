"""What the data path is to reach, and what of it has been reached."""

import dataclasses

# CPU time of mamparo for one request, divided by the other's in the same round; the median must not exceed this.
RATIOS = {
    "get64": {"nginx": 0.90, "haproxy": 0.85, "envoy": 0.30, "floor": 1.5},
    "accesslog": {"nginx": 0.95, "haproxy": 0.90, "envoy": 0.30},
    "post4k": {"nginx": 1.0, "haproxy": 1.0, "envoy": 0.35},
    "get1m": {"nginx": 0.6, "haproxy": 1.2, "envoy": 0.8},
    "h2": {"nginx": 0.55, "haproxy": 0.85, "envoy": 0.25},
    "tls": {"nginx": 0.95, "haproxy": 0.95, "envoy": 0.40},
    "retry503": {"haproxy": 0.9, "envoy": 0.35},
}
PEERS = ("nginx", "haproxy", "envoy", "floor")


@dataclasses.dataclass(frozen=True)
class Goal:
    """Something else to reach: at most so much, or at least."""

    what: str
    target: float
    unit: str
    at_least: bool = False

    def verdict(self, measured, target=None):
        """Whether so much reaches it."""
        return verdict(measured, self.target if target is None else target, self.at_least)


GOALS = {
    "tail": Goal("p99 added at half of nginx's rate, no more than HAProxy's", 1.0, "of HAProxy's"),
    "policies": Goal("CPU time with all policies on, of that with none", 1.10, "×"),
    "telling": Goal("CPU time with the recorder and spans of a tenth of all, of that with neither", 1.05, "×"),
    "workers": Goal("requests through two workers, of those through one", 1.85, "×", at_least=True),
    "workers 4": Goal("the same with 4 client connections", 1.85, "×", at_least=True),
    "idle": Goal("resident memory when idle", 10, "MiB"),
    "pair": Goal("an idle client connection with one to the origin", 12, "KiB"),
    "flat": Goal("growth of resident memory in the soak", 3, "%"),
    "start": Goal("from exec to the first answer", 30, "ms"),
    "large start": Goal("the same with 1 000 upstreams × 10 endpoints × 10 routes", 300, "ms"),
    "large reload": Goal("a reload of those, from the file's change", 200, "ms"),
    "large tail": Goal("p99 during ten such reloads, of that without", 1.25, "×"),
}


def verdict(measured, target, at_least=False):
    """In words; what is missed by less than can be shown is missed all the same."""
    if measured >= target if at_least else measured <= target:
        return "met"
    return f"missed by {abs(measured / target - 1):.0%}"


def compared(work, ratios):
    """A row of the table of works: the ratio to each peer, and what it should be."""
    for peer in PEERS:
        target, ratio = RATIOS.get(work, {}).get(peer), ratios.get(peer)
        if ratio is None:
            yield "–" if target is None else f"not measured (≤ {target:.2f})"
        elif target is None:
            yield f"{ratio:.2f}"
        else:
            yield f"{ratio:.2f} (≤ {target:.2f}: {verdict(ratio, target)})"
