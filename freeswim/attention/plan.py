"""Which dense calls compute a window attention at the least cost? Pure geometry and a cost model, no tensors.

Queries whose windows differ may still be computed in one call: against the union of their windows, under a mask that
keeps for each query its own. Few queries a call waste time on calls, many waste it on masked keys; `plan_calls` finds
the balance. Windows that the border pushed to the same place are merged for nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, product

from freeswim.windows import Range, Segment, keys_by_query, length


@dataclass(frozen=True)
class Run:
    """Neighbouring segments of one axis computed in one call: all queries, and the union of their keys."""

    segments: tuple[Segment, ...]

    @property
    def queries(self) -> Range:
        return self.segments[0].queries[0], self.segments[-1].queries[1]

    @property
    def keys(self) -> Range:
        # Windows never move backwards along an axis.
        return self.segments[0].keys[0], self.segments[-1].keys[1]

    @property
    def uniform(self) -> bool:
        """Whether all queries see the same keys, so that no mask is needed."""
        return self.segments[0].keys == self.segments[-1].keys

    @property
    def relative_keys(self) -> tuple[Range, ...]:
        """For each query, the keys it sees, counted from the first key of the run."""
        origin = self.keys[0]
        return tuple((start - origin, stop - origin) for start, stop in keys_by_query(self.segments))


@dataclass(frozen=True)
class Cost:
    """What a call costs, in units of one query-key pair of all heads."""

    call: float
    """A call, whatever its size: kernel start, packing, Python."""
    gather: float
    """Copying one key and value together."""
    context: int
    """Keys that every call gets besides its window; with any, the window's keys are copied once more, to join them."""
    masked: float
    """A pair under a mask, relative to one without."""
    mask_limit: int
    """About the most pairs that one mask may hold."""


def plan_calls(
    rows: Sequence[Segment], columns: Sequence[Segment], *, frames: int, cost: Cost
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Runs of rows and of columns; each pair (row run, column run) is one attention call over all frames."""
    return _plan_calls(tuple(rows), tuple(columns), frames, cost)


@lru_cache(maxsize=256)
def _plan_calls(
    rows: tuple[Segment, ...], columns: tuple[Segment, ...], frames: int, cost: Cost
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    # A mask holds the pairs of both axes in all frames; half of the limit (in logarithm) is granted to each axis.
    limit = math.sqrt(cost.mask_limit) / frames
    candidates = product(_partitions(rows, cost.masked, limit), _partitions(columns, cost.masked, limit))
    return min(candidates, key=lambda runs: _estimate(runs[0], runs[1], frames, cost))


@lru_cache(maxsize=256)
def batches(runs: tuple[Run, ...]) -> tuple[tuple[Run, ...], ...]:
    """Neighbouring runs that one batched call computes: as many queries, the same pattern of keys, at equal steps."""
    cut: list[list[Run]] = []
    for run in runs:
        if cut and _continues(cut[-1], run):
            cut[-1].append(run)
        else:
            cut.append([run])
    return tuple(tuple(batch) for batch in cut)


def _continues(batch: Sequence[Run], run: Run) -> bool:
    last = batch[-1]
    if (length(last.queries), last.relative_keys) != (length(run.queries), run.relative_keys):
        return False
    step = run.keys[0] - last.keys[0]
    return step > 0 if len(batch) == 1 else step == last.keys[0] - batch[-2].keys[0]


def _partitions(segments: tuple[Segment, ...], masked: float, limit: float) -> list[tuple[Run, ...]]:
    """Good cuts of an axis into runs: one without masks, and the cheapest one for each of a row of prices of a run."""
    cuts = {tuple(Run(tuple(run)) for _, run in groupby(segments, key=lambda segment: segment.keys))}
    price, size = 1.0, segments[-1].queries[1]
    while price <= size * size:
        cuts.add(_cheapest_partition(segments, price, masked, limit))
        price *= 2
    return sorted(cuts, key=len)


def _cheapest_partition(segments: tuple[Segment, ...], price: float, masked: float, limit: float) -> tuple[Run, ...]:
    """The cut that minimises queries x keys summed over its runs, plus `price` for each run (dynamic programming).

    No run of several segments has more than `limit` pairs.
    """
    best: list[tuple[float, int]] = [(0.0, 0)]  # cheapest cost of the first i segments, and where its last run starts
    for end in range(1, len(segments) + 1):
        last, cheapest = segments[end - 1], (math.inf, 0)
        for start in reversed(range(end)):
            first = segments[start]
            pairs = (last.queries[1] - first.queries[0]) * (last.keys[1] - first.keys[0])
            cost = price + (pairs if first.keys == last.keys else masked * pairs)
            if cost >= cheapest[0] or (pairs > limit and start < end - 1):
                break  # still longer runs cost still more
            cheapest = min(cheapest, (best[start][0] + cost, start))
        best.append(cheapest)
    cut: list[Run] = []
    end = len(segments)
    while end:
        start = best[end][1]
        cut.append(Run(segments[start:end]))
        end = start
    return tuple(reversed(cut))


def _estimate(rows: Sequence[Run], columns: Sequence[Run], frames: int, cost: Cost) -> float:
    """The cost of all calls. Sums over calls are products of sums over axes, since every pair of runs is a call."""

    def pairs(runs: Sequence[Run]) -> int:
        return sum(length(run.queries) * length(run.keys) for run in runs)

    def keys(runs: Sequence[Run]) -> int:
        return sum(length(run.keys) for run in runs)

    uniform_rows, uniform_columns = ([run for run in runs if run.uniform] for runs in (rows, columns))
    every_pair = frames**2 * pairs(rows) * pairs(columns)
    plain_pairs = frames**2 * pairs(uniform_rows) * pairs(uniform_columns)
    # Each run of rows is copied once, in its whole width; columns of it need no copy of their own.
    gathered = frames * keys(rows) * columns[-1].queries[1]
    if cost.context:
        gathered += frames * keys(rows) * keys(columns) + cost.context * len(rows) * len(columns)
    return (
        plain_pairs
        + cost.masked * (every_pair - plain_pairs)
        + cost.gather * gathered
        + cost.call * len(rows) * len(columns)
    )
