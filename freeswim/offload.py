"""Where a model's parts rest while others run. No torch here: estimates ask as well as the loader does."""

from typing import Literal

Offload = Literal["auto", "none", "model", "group"]
"""none: all parts stay on the GPU. model: one at a time is there, which costs seconds a run. group: one layer at a
time, slower, the least memory. auto: "none" or "model", see `choose_offload`."""

_RESIDENT_SHARE = 1 / 3


def choose_offload(weights: int, memory: int) -> Literal["none", "model"]:
    """What "auto" comes to, for `weights` bytes of all parts and a GPU with `memory` bytes.

    Everything stays on the GPU if that leaves most of it to the large size: the text encoder, three quarters of
    Wan2.1-1.3B, is used once a run, and what it takes is then missing for 4K.
    """
    return "none" if weights <= _RESIDENT_SHARE * memory else "model"
