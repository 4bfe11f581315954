"""FreeSwimConfig: bad values are named before anything runs, and a config survives JSON."""

import json
import math
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

import freeswim
from freeswim import FreeSwimConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window", (0, 4)),
        ("window", (4,)),
        ("window", "4x4"),
        ("window", (4.0, 4)),
        ("window", 4),
        ("query_tile", (0, 1)),
        ("query_tile", (True, 1)),
        ("query_tile", (5, 1)),
        ("query_tile", (1, 7)),
        ("guide_grid", (0, 3)),
        ("window_mode", "outward"),
        ("guide", None),
        ("override", "keys"),
        ("refresh_interval", 0),
        ("refresh_interval", 1.5),
        ("refresh_interval", True),
        ("context_until", 0.0),
        ("context_until", 1.5),
        ("anchor_above", -0.1),
        ("anchor_above", 1.5),
        ("anchor_above", "high"),
        ("refresh_until", 0.0),
        ("refresh_until", 1.1),
        ("refresh_until", math.nan),
        ("refresh_until", "1"),
        ("logit_scale", 0.0),
        ("logit_scale", -1),
        ("logit_scale", math.inf),
        ("shift_tiles", 1),
        ("guide_unconditional", "yes"),
    ],
)
def test_bad_values_are_named(field: str, value: Any) -> None:
    values = {"window": (4, 6)} | {field: value}
    with pytest.raises(ValueError, match=field) as caught:
        FreeSwimConfig(**values)
    assert str(value) in str(caught.value)


def test_the_authors_logit_scale_comes_from_the_window() -> None:
    assert FreeSwimConfig(window=(30, 52)).effective_logit_scale == pytest.approx(1.0461, abs=5e-5)
    assert FreeSwimConfig(window=(1, 1)).effective_logit_scale == 1
    assert FreeSwimConfig(window=(30, 52), logit_scale=1.5).effective_logit_scale == 1.5


def test_naive_is_windows_and_nothing_else() -> None:
    config = FreeSwimConfig.naive((9, 16), "blocks")
    assert (config.window, config.window_mode, config.guide) == ((9, 16), "blocks", "none")
    assert config.effective_logit_scale == 1
    assert FreeSwimConfig.naive((9, 16)).window_mode == "clipped"


def test_frozen_and_keyword_only() -> None:
    config = FreeSwimConfig(window=(4, 6))
    with pytest.raises(FrozenInstanceError):
        config.window = (1, 1)  # type: ignore[misc]
    with pytest.raises(TypeError):
        FreeSwimConfig((4, 6))  # type: ignore[misc]
    assert replace(config, refresh_interval=5).refresh_interval == 5
    with pytest.raises(ValueError, match="refresh_interval"):
        replace(config, refresh_interval=-5)


def test_json_round_trip() -> None:
    config = FreeSwimConfig(window=(30, 52), query_tile=(10, 13), guide_grid=(28, 50), refresh_until=0.1, guide="full")
    again = FreeSwimConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)
    with pytest.raises(ValueError, match="windows"):
        FreeSwimConfig.from_dict({"window": [4, 6], "windows": 3})


def test_importing_the_package_is_light() -> None:
    """Bad arguments are answered before torch is imported, and yet everything public is there."""
    code = "import sys, freeswim; freeswim.FreeSwimConfig(window=(4, 6)); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    for name in freeswim.__all__:
        assert getattr(freeswim, name) is not None
    assert set(freeswim.__all__) <= set(dir(freeswim))
    with pytest.raises(AttributeError, match="swim_free"):
        freeswim.swim_free  # noqa: B018
