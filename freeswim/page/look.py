"""What to look for in a comparison: one short line from what was measured in these very videos."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from freeswim.embedded.subjects import KINDS, find, load
from freeswim.page.measure import detail, moments, repetition

Frames = NDArray[np.uint8]

_COUNTED = (0.1, 0.5, 0.9)  # moments of a video at which subjects are counted
# Above what pictures without copies reach (see measure.repetition); below it nothing is claimed.
_REPEATS = 0.08
_FINER = 1.15  # times as much fine detail: less can't be seen


def what_to_look_for(
    videos: Mapping[str, Frames], *, model: str, prompt: str, base_name: str = "the native video"
) -> str:
    """A sentence or two about `videos`, uint8 (T, H, W, 3) each; empty when there is nothing to compare.

    `videos` holds "freeswim", "base" (the native video, or the one that was brought, then called `base_name`) and
    perhaps "naive". In the
    embedded model's world subjects are counted; elsewhere, and where the counts are alike, it is measured how much each
    video repeats itself and how much finer than the enlarged base it is. Ends with what speaks against FreeSwim when
    something does.
    """
    if "freeswim" not in videos or "base" not in videos or videos["freeswim"].shape == videos["base"].shape:
        return ""
    if model == "embedded":
        counts = _counts(videos)
        if len({count.number for count in counts.values()}) > 1:
            return _counts_line(counts, prompt, base_name)
        alike = f"Every video shows {_several(counts['base'].number, _noun(counts, prompt))}."
        # Subjects aren't all that can be copied: horizons can, too.
        repeated = repetitions(videos)
        rest = repetition_line(repeated, base_name) if max(repeated.values()) >= _REPEATS else ""
        return f"{alike} {rest or detail_line(videos, base_name)}"
    return f"{repetition_line(repetitions(videos), base_name)} {detail_line(videos, base_name)}"


# ---- subjects


@dataclass(frozen=True)
class _Count:
    """The median number of subjects in a few frames, and how often each kind was seen in them."""

    number: int
    kinds: Counter[str]


def _counts(videos: Mapping[str, Frames]) -> dict[str, _Count]:
    net = load()
    counts = {}
    for name in ("naive", "freeswim", "base"):
        if name in videos:
            found = find(net, moments(videos[name], _COUNTED))
            number = int(np.median([len(subjects) for subjects in found]))
            counts[name] = _Count(number, Counter(s.kind for subjects in found for s in subjects))
    return counts


def _noun(counts: Mapping[str, _Count], prompt: str) -> str:
    """What to call the subjects: their kind when nearly all are of one, else "subject"."""
    kinds = sum((count.kinds for count in counts.values()), Counter[str]())
    named = [kind for kind in KINDS if re.search(rf"\b{kind}s?\b", prompt.lower())]
    if named in (["sun"], ["moon"]):  # the detector mistakes a yellow moon in a pink sky for a sun
        other = {"sun": "moon", "moon": "sun"}[named[0]]
        kinds[named[0]] += kinds.pop(other, 0)
    if not kinds:
        return named[0] if len(named) == 1 else "subject"
    kind, times = kinds.most_common(1)[0]
    return kind if times >= 0.85 * kinds.total() else "subject"


def _counts_line(counts: Mapping[str, _Count], prompt: str, base_name: str) -> str:
    """Counts that differ, in words."""
    noun = _noun(counts, prompt)
    native, freeswim = counts["base"].number, counts["freeswim"].number
    ours = f"FreeSwim {freeswim}" if "naive" in counts else f"FreeSwim drew {_several(freeswim, noun)}"
    ours += f", as in {base_name}" if freeswim == native else f", {base_name} shows {native}"
    if "naive" in counts:
        ours = f"Naive windows drew {_several(counts['naive'].number, noun)}, {ours}"
    warning = " So FreeSwim shows copies here, too." if freeswim > native else ""
    return f"{ours}.{warning}"


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# ---- repetition and detail


def repetitions(videos: Mapping[str, Frames]) -> dict[str, float]:
    """Of each large video, the share of what stands out that it repeats (see measure.repetition)."""
    return {name: repetition(videos[name], videos["base"]) for name in ("naive", "freeswim") if name in videos}


def repetition_line(shares: Mapping[str, float], base_name: str) -> str:
    """What `repetitions` found, in words."""
    ours, theirs = shares["freeswim"], shares.get("naive")
    if theirs is None:
        if ours < _REPEATS:
            return f"FreeSwim repeats nothing that {base_name} shows once."
        return f"FreeSwim draws {_percent(ours)} of what stands out more than once; look for copies."
    if max(ours, theirs) < _REPEATS:
        return f"Neither side repeats what {base_name} shows once."
    line = f"Naive windows draw {_percent(theirs)} of what stands out more than once, FreeSwim {_percent(ours)}."
    return line + (" So FreeSwim shows copies here, too." if ours >= _REPEATS else "")


def detail_line(videos: Mapping[str, Frames], base_name: str) -> str:
    """How much finer than the enlarged base the large videos are, in words."""
    times = {name: detail(videos[name], videos["base"]) for name in ("freeswim", "naive") if name in videos}
    ours = times["freeswim"]
    if ours < _FINER:
        line = f"FreeSwim is hardly finer than {base_name}, enlarged ({ours:.1f} times its detail)"
    else:
        line = f"FreeSwim has {ours:.1f} times the fine detail of {base_name}, enlarged"
    return line + (f", naive windows {times['naive']:.1f} times." if "naive" in times else ".")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
