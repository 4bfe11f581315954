"""The drawing of windows and tiles: true numbers, at every mode and size."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from freeswim.page.diagram import window_diagram
from freeswim.windows import window_range

CASES: list[dict[str, Any]] = [
    {"grid": (18, 32), "window": (9, 16), "query_tile": (3, 5), "guide_grid": (9, 16)},
    {"grid": (18, 32), "window": (9, 16), "query_tile": (3, 5), "guide_grid": (18, 32), "shift_tiles": True},
    {"grid": (27, 48), "window": (9, 16), "window_mode": "clipped"},
    {"grid": (27, 48), "window": (9, 16), "window_mode": "blocks"},
    {"grid": (135, 240), "window": (30, 52), "guide_grid": (30, 52)},
    {"grid": (48, 27), "window": (16, 9), "query_tile": (5, 3), "guide_grid": (16, 9), "shift_tiles": True},
    {"grid": (9, 32), "window": (9, 16), "query_tile": (3, 5)},
]


def parsed(case: dict[str, Any]) -> tuple[ElementTree.Element, float]:
    """The figure, and the units of a token."""
    figure = ElementTree.fromstring(window_diagram(**case).replace("\u00a0", " "))
    ground = figure.find("svg/rect[@class='ground']")
    assert ground is not None
    scale = float(ground.attrib["width"]) / case["grid"][1]
    assert float(ground.attrib["height"]) == pytest.approx(scale * case["grid"][0], abs=0.01)
    return figure, scale


def box(figure: ElementTree.Element, kind: str, scale: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of a rectangle, in tokens."""
    rectangle = figure.find(f"svg/rect[@class='{kind}']")
    assert rectangle is not None
    x, y, width, height = (float(rectangle.attrib[name]) / scale for name in ("x", "y", "width", "height"))
    return (round(y), round(y + height)), (round(x), round(x + width))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_windows_lie_where_they_lie(case: dict[str, Any]) -> None:
    figure, scale = parsed(case)
    mode, tile = case.get("window_mode", "inward"), case.get("query_tile", (1, 1))
    for name, where in (("a", 0.06), ("b", 0.5)):
        found = box(figure, f"window {name}", scale)
        for axis in (0, 1):
            query = int(where * case["grid"][axis])
            centre = query // tile[axis] * tile[axis] + tile[axis] // 2
            assert found[axis] == window_range(centre, case["grid"][axis], case["window"][axis], mode), (name, axis)
    if mode == "inward":
        assert all(stop - start == size for (start, stop), size in zip(found, case["window"], strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_named_scales_down_and_stays_small(case: dict[str, Any]) -> None:
    figure, _ = parsed(case)
    for svg in figure.iter("svg"):
        assert svg.attrib["role"] == "img"
        assert re.fullmatch(r"width:[0-9.]+%", svg.attrib["style"])
        assert float(svg.attrib["style"][6:-1]) <= 100
    label = figure.findall("svg")[0].attrib["aria-label"]
    assert f"{case['grid'][0]} × {case['grid'][1]} tokens" in label
    assert len(window_diagram(**case)) < 12_000


def test_the_guide_is_drawn_to_the_same_scale() -> None:
    figure, scale = parsed(CASES[0])
    guide = figure.find("figcaption/div/svg/rect")
    assert guide is not None
    assert float(guide.attrib["width"]) == pytest.approx(16 * scale, abs=0.01)
    assert "No guide" in window_diagram(grid=(18, 32), window=(9, 16))


def said(**case: Any) -> str:
    return window_diagram(**case).replace("\u00a0", " ")


def test_words_say_what_is_special_about_each_mode() -> None:
    size: dict[str, Any] = {"grid": (18, 32), "window": (9, 16)}
    assert "moved inward, still 9 × 16" in said(**size)
    assert "cut off at the border, 6 × 9" in said(**size, window_mode="clipped")
    assert "its own block, 9 × 16" in said(**size, window_mode="blocks")
    whole = said(grid=(9, 16), window=(9, 16))
    assert "every query sees every token" in whole
    assert "window b" not in whole


def test_tiles_are_as_many_as_there_are() -> None:
    figure, _ = parsed(CASES[0])
    lines = figure.find("svg/path[@class='tiles']")
    assert lines is not None
    assert lines.attrib["d"].count("h") == 18 // 3 - 1
    assert lines.attrib["d"].count("v") == -(-32 // 5) - 1
    assert "tiles shifted" not in window_diagram(**CASES[0])
    assert "tiles shifted" in window_diagram(**CASES[1])


def test_a_tile_larger_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="tile=10 must not exceed window=9"):
        window_diagram(grid=(18, 32), window=(9, 16), query_tile=(10, 5))
