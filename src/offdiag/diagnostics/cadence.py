"""Which steps are read: by the count of steps alone, so that equal runs have equal readings.

Early steps are read densely, then at a cadence. Where readings cost more than their share of
training, the cadence widens, but never beyond a quarter of the steps so far. What a reading costs
is counted in multiplications and not taken from a clock, which would differ from run to run.
"""

from collections.abc import Iterator
from dataclasses import dataclass

EARLY = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90)
"""A dozen steps, half as many again each time: owed to every run, whatever they cost."""
GROWTH = 4
"""The gap between two readings is at most the steps so far, divided by this, or the cadence."""


@dataclass
class Cadence:
    """The steps to read: multiples of `every`, the early ones, and none that cost too much.

    `budget` is the share of training that readings may take. None reads at every multiple of
    `every` and nowhere else. `reading` and `step` are the work of a reading and of a training
    step in any one unit; 0: not known yet, and nothing is put off. `put_off` counts the multiples
    of `every` that were not read, `taken` the readings. The first dozen are never put off.
    """

    every: int
    budget: float | None
    reading: float = 0.0
    step: float = 0.0
    put_off: int = 0
    taken: int = 0

    def first(self, steps: int) -> int:
        """The first step to read from `steps` on: of a resumed run, a multiple of `every`."""
        return -(-steps // self.every) * self.every

    def after(self, step: int) -> int:
        """The step to read after `step`, which was read; counts what is put off for the cost."""
        planned = (step // self.every + 1) * self.every
        self.taken += 1
        if self.budget is None:
            return planned
        if self.taken < len(EARLY):
            return min([planned, *(one for one in EARLY if one > step)])
        gap = min(self._affordable(), max(step // GROWTH, self.every))
        late = max(planned, -(-(step + gap) // self.every) * self.every)
        self.put_off += (late - planned) // self.every
        return late

    def _affordable(self) -> int:
        """The number of steps that pay for a reading."""
        if self.budget is None or self.step <= 0:
            return 0
        return int(self.reading / (self.budget * self.step))


def steps_read(cadence: Cadence, steps: int) -> Iterator[int]:
    """The steps at which a run of `steps` steps is read."""
    at = cadence.first(0)
    while at < steps:
        yield at
        at = cadence.after(at)
