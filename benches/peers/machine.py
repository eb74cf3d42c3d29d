"""The machine: what it is, and which core does what."""

import dataclasses
import os
import platform
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Place:
    """The cores for each role, and a remark where roles must share."""

    proxy: list[int]
    origin: list[int]
    load: list[int]
    remark: str


def place():
    """The proxy's core is its own wherever there are two; origin and load share where there are only two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= 3:
        return Place(
            [cores[1]],
            [cores[2]],
            [cores[0], *cores[3:]],
            f"{len(cores)} cores: one for the proxy, one for the origin, the rest for the load",
        )
    if len(cores) == 2:
        return Place(
            [cores[1]],
            [cores[0]],
            [cores[0]],
            "2 cores: one for the proxy; origin and load share the other, "
            "so requests per second say little and processor time is what counts",
        )
    return Place(cores, cores, cores, "1 core for all: only processor time says anything")


def description():
    """Processor, memory and system in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{model.strip()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, Linux {platform.release()}"
