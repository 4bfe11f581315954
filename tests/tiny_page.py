"""The page's functions on a tiny random model: a form, and what comes of it."""

import dataclasses
from typing import Any

from freeswim.models import EMBEDDED

TINY = dataclasses.replace(EMBEDDED, native_width=64, native_height=64, native_frames=5, max_sequence_length=16)
FORM: dict[str, Any] = {
    "prompt": "a red sun", "model": "embedded", "resolution": "128x128", "seed": 3, "randomize": False, "frames": 5,
    "steps": 3, "window": "4x4", "query_tile": "2x2", "logit_scale": "",
}  # fmt: skip


def last_value(changes: list[dict[str, Any]], name: str) -> Any:
    return [change[name] for change in changes if name in change][-1]
