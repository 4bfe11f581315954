"""Which dense calls compute a window attention at the least cost? Pure geometry and a cost model, no tensors.

Queries whose windows differ may still be computed in one call: against the union of their windows, under a mask that
keeps for each query its own. Few queries a call waste time on calls, many waste it on masked keys; `plan_calls` finds
the balance. Windows that the border pushed to the same place are merged for nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from freeswim.windows import Range, Segment


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
        return tuple(
            (segment.keys[0] - origin, segment.keys[1] - origin)
            for segment in self.segments
            for _ in range(*segment.queries)
        )


@dataclass(frozen=True)
class Cost:
    """What a call costs, in units of one query-key pair of all heads."""

    call: float
    """A call, whatever its size: kernel start, packing, Python."""
    gather: float
    """Copying one key and value together."""
    masked: float
    """A pair under a mask, relative to one without."""
    mask_limit: int
    """The most pairs that one mask may hold."""


def plan_calls(
    rows: Sequence[Segment], columns: Sequence[Segment], *, frames: int, cost: Cost
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Runs of rows and of columns; each pair (row run, column run) is one attention call over all frames."""
    return _plan_calls(tuple(rows), tuple(columns), frames, cost)


@lru_cache(maxsize=256)
def _plan_calls(
    rows: tuple[Segment, ...], columns: tuple[Segment, ...], frames: int, cost: Cost
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    candidates = [(y, x) for y in _partitions(rows, cost.masked) for x in _partitions(columns, cost.masked)]
    return min(candidates, key=lambda runs: _estimate(runs[0], runs[1], frames, cost))


def _partitions(segments: tuple[Segment, ...], masked: float) -> list[tuple[Run, ...]]:
    """Good cuts of an axis into runs, from runs of identical windows to the whole axis: one per price of a run."""
    merged = _merge_identical(segments)
    cuts = {tuple(merged)}
    price, size = 1.0, segments[-1].queries[1]
    while price <= size * size:
        cuts.add(_cheapest_partition(merged, price, masked))
        price *= 2
    return sorted(cuts, key=len)


def _merge_identical(segments: tuple[Segment, ...]) -> list[Run]:
    merged: list[list[Segment]] = []
    for segment in segments:
        if merged and merged[-1][-1].keys == segment.keys:
            merged[-1].append(segment)
        else:
            merged.append([segment])
    return [Run(tuple(run)) for run in merged]


def _cheapest_partition(runs: list[Run], price: float, masked: float) -> tuple[Run, ...]:
    """The cut that minimises queries x keys summed over its runs, plus `price` for each run (dynamic programming)."""
    best: list[tuple[float, int]] = [(0.0, 0)]  # cheapest cost of the first i runs, and where its last run starts
    for end in range(1, len(runs) + 1):
        options = []
        for start in range(end):
            queries = runs[end - 1].queries[1] - runs[start].queries[0]
            keys = runs[end - 1].keys[1] - runs[start].keys[0]
            factor = 1.0 if end - start == 1 else masked
            options.append((best[start][0] + factor * queries * keys + price, start))
        best.append(min(options))
    cut: list[Run] = []
    end = len(runs)
    while end:
        start = best[end][1]
        cut.append(Run(tuple(segment for run in runs[start:end] for segment in run.segments)))
        end = start
    return tuple(reversed(cut))


def _estimate(rows: tuple[Run, ...], columns: tuple[Run, ...], frames: int, cost: Cost) -> float:
    """The cost of all calls. Sums over calls are products of sums over axes, since every pair of runs is a call."""

    def pairs(runs: Sequence[Run]) -> int:
        return sum(_length(run.queries) * _length(run.keys) for run in runs)

    def keys(runs: Sequence[Run]) -> int:
        return sum(_length(run.keys) for run in runs)

    def largest(runs: Sequence[Run]) -> int:
        return max((_length(run.queries) * _length(run.keys) for run in runs), default=0)

    uniform_rows, uniform_columns = ([run for run in runs if run.uniform] for runs in (rows, columns))
    every_pair = frames**2 * pairs(rows) * pairs(columns)
    plain_pairs = frames**2 * pairs(uniform_rows) * pairs(uniform_columns)
    has_mask = len(uniform_rows) < len(rows) or len(uniform_columns) < len(columns)
    if has_mask and frames**2 * largest(rows) * largest(columns) > cost.mask_limit:
        # Too large a mask: no choice if anything smaller exists, and the smallest one if not.
        return float(every_pair) * 1e6
    gathered = frames * keys(rows) * keys(columns)
    return (
        plain_pairs
        + cost.masked * (every_pair - plain_pairs)
        + cost.gather * gathered
        + cost.call * len(rows) * len(columns)
    )


def _length(bounds: Range) -> int:
    return bounds[1] - bounds[0]
