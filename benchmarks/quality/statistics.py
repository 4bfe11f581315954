"""Means and their 95 % intervals over clips."""

import math

import numpy as np
from numpy.typing import NDArray

Z = 1.959964


def share(values: NDArray[np.floating]) -> tuple[float, float, float]:
    """Mean of 0s and 1s with Wilson's interval, which does not shrink to nothing at 0 % and 100 %."""
    n, p = len(values), float(np.mean(values))
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return p, max(0.0, centre - half), min(1.0, centre + half)


def mean(values: NDArray[np.floating], prompts: int) -> tuple[float, float, float]:
    """Mean with a bootstrap interval over prompts: clips i, i + prompts, ... show the same prompt."""
    by_prompt = values.reshape(-1, prompts).mean(axis=0)
    picks = np.random.default_rng(0).integers(prompts, size=(2000, prompts))
    low, high = np.quantile(by_prompt[picks].mean(axis=1), [0.025, 0.975])
    return float(by_prompt.mean()), float(low), float(high)


def geometric_mean(values: NDArray[np.floating], prompts: int) -> tuple[float, float, float]:
    """Like `mean`, of ratios: half and double balance."""
    centre, low, high = mean(np.log(values), prompts)
    return math.exp(centre), math.exp(low), math.exp(high)
