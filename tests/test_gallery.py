"""The gallery of recent runs in headless Chromium: kept across reloads, opened, deleted, gone, by mouse and keys."""

import base64
import io
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from freeswim.page.gallery import LIMIT, SHOW_ALL, SHOW_COMPARISON, Gallery, GalleryData, GalleryEntry
from freeswim.page.player import ComparePlayer, ComparisonValue
from freeswim.page.theme import CSS_PATH, theme
from freeswim.video import Video, write_video
from tests.visit import Watched

PROMPTS = ("a red sun rising over blue mountains", "a white boat sailing left", "a <b>yellow</b> moon & stars")


def poster(colour: int) -> str:
    file = io.BytesIO()
    Image.fromarray(np.full((18, 32, 3), colour, np.uint8)).save(file, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


@dataclass
class Demo:
    """A page with three buttons that each end a run, a gallery and a player; what its handlers were told."""

    url: str
    files: list[Path]
    restored: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("gallery")
    frames = np.zeros((5, 32, 64, 3), np.uint8)
    files = [write_video(folder / f"{n}.mp4", Video(frames + 80 * n, 16.0)) for n in range(3)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = Demo(f"http://127.0.0.1:{port}/", files)

    def entry(n: int) -> GalleryEntry:
        settings = {"prompt": PROMPTS[n], "width": 64, "height": 32, "seed": n + 7, "model": "embedded"}
        shown = ComparisonValue(right=files[n], base=files[n], fps=16, width=64, height=32)
        return GalleryEntry(run=f"run-{n}", poster=poster(80 * n), settings=settings, comparison=shown)

    def restore(event: gr.EventData) -> str:
        demo.restored.append({"settings": event.settings, "gone": event.gone})
        return str(event.settings["seed"])

    with gr.Blocks(analytics_enabled=False) as page:
        seed = gr.Textbox(label="Seed")
        player = ComparePlayer(elem_id="player")
        alone = [gr.Video(elem_id=f"video-{name}") for name in ("right", "left", "base")]
        gallery = Gallery(elem_id="gallery")
        for n in range(3):
            gr.Button(f"run {n}").click(lambda n=n: entry(n), None, gallery, show_progress="hidden")
        gallery.select(restore, None, seed, show_progress="hidden")
        gallery.input(None, gallery, [player, *alone], js=SHOW_ALL)
    page.launch(
        server_name="127.0.0.1",
        server_port=port,
        theme=theme(),
        css_paths=CSS_PATH,
        allowed_paths=[str(folder)],
        ssr_mode=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    yield demo
    page.close()


class Visit(Watched):
    """A browser of its own, with the page open."""

    def __init__(self, browser: Browser, demo: Demo, **context: Any) -> None:
        super().__init__(browser, **({"viewport": {"width": 1000, "height": 1100}} | context))
        self.page = self.open(demo.url)

    def open(self, url: str) -> Page:
        page = super().open(url)
        expect(page.get_by_role("region", name="Recent runs")).to_be_visible(timeout=20_000)
        return page

    def run(self, *numbers: int) -> None:
        for n in numbers:
            before = self.cards.count()
            self.page.get_by_role("button", name=f"run {n}").click()
            expect(self.cards).to_have_count(before + 1)

    @property
    def cards(self) -> Locator:
        return self.page.locator("#gallery li")

    def stored(self) -> list[dict[str, Any]]:
        stored: list[dict[str, Any]] = json.loads(self.page.evaluate("localStorage.getItem('freeswim.runs') || '[]'"))
        return stored


@pytest.fixture
def visit(browser: Browser, demo: Demo) -> Iterator[Visit]:
    visit = Visit(browser, demo)
    demo.restored.clear()
    yield visit
    assert visit.errors == []
    assert visit.hosts <= {"127.0.0.1", None}
    visit.context.close()


def test_an_entry_becomes_served_files_and_never_comes_back(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mp4", Video(np.zeros((1, 16, 16, 3), np.uint8), 16.0))
    settings = {"prompt": "x", "width": 16, "height": 16, "seed": 1}
    entry = GalleryEntry(run="a", poster="", settings=settings, comparison=ComparisonValue(right=file))
    gallery = Gallery(render=False)
    data = gallery.postprocess(entry)
    assert isinstance(data, GalleryData)
    assert data.entry is not None
    assert data.entry.comparison.right is not None
    assert data.entry.comparison.right.path == str(file)
    assert gallery.postprocess(None) is None
    assert gallery.preprocess(data) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"settings": {"prompt": "x", "width": 1}}, "lack height, seed"),
        ({"poster": "https://example.com/a.jpg"}, "is no data URL"),
        ({"poster": "data:image/jpeg;base64," + "A" * 200_000}, "fill a browser's storage"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(bad: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "run": "a",
        "poster": "",
        "settings": {"prompt": "x", "width": 1, "height": 1, "seed": 1},
        "comparison": ComparisonValue(),
    }
    with pytest.raises(ValueError, match=message):
        GalleryEntry(**(good | bad))


def test_the_markup_is_no_template() -> None:
    gallery = Gallery(render=False)
    for template in (gallery.html_template, gallery.css_template):
        assert not re.search(r"[`\\$]|{{", template)
    assert "chosen.comparison" in SHOW_COMPARISON


@pytest.mark.browser
def test_runs_are_listed_newest_first_and_survive_a_reload(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("#gallery")).to_contain_text("Your runs will be listed here")
    visit.run(0, 1, 2)
    for _ in range(2):
        expect(visit.cards).to_have_count(3)
        assert [card.locator(".prompt").inner_text() for card in visit.cards.all()] == list(reversed(PROMPTS))
        expect(visit.cards.first).to_contain_text("64 × 32 · seed 9")
        expect(visit.cards.first.locator("img")).to_have_js_property("naturalWidth", 32)
        expect(page.locator("#gallery .none")).to_be_hidden()
        page.reload()
    expect(visit.cards).to_have_count(3)
    page.get_by_role("button", name="run 0").click()  # the same run again moves to the front, and is no second one
    expect(visit.cards.first).to_contain_text(PROMPTS[0])
    expect(visit.cards).to_have_count(3)


@pytest.mark.browser
def test_opening_a_run_shows_it_and_brings_its_settings_back(visit: Visit, demo: Demo) -> None:
    visit.run(0, 1)
    visit.page.reload()
    visit.cards.last.get_by_role("button", name=PROMPTS[0]).first.click()
    expect(visit.page.get_by_label("Seed", exact=True)).to_have_value("7")
    assert demo.restored == [{"settings": {**demo.restored[0]["settings"], "prompt": PROMPTS[0]}, "gone": False}]
    right = visit.page.locator("#player video[data-part=right]")
    expect(right).to_have_js_property("videoWidth", 64)
    assert "0.mp4" in (right.get_attribute("src") or "")
    expect(visit.page.locator("#video-right video")).to_have_js_property("videoWidth", 64)
    expect(visit.cards.last).to_have_class("opened")


@pytest.mark.browser
def test_one_is_deleted_and_all_are_after_a_question(visit: Visit) -> None:
    visit.run(0, 1, 2)
    visit.cards.nth(1).hover()
    visit.cards.nth(1).get_by_role("button", name="Delete from this list").click()
    expect(visit.cards).to_have_count(2)
    assert [run["run"] for run in visit.stored()] == ["run-2", "run-0"]
    clear = visit.page.locator("#gallery .clear")
    clear.click()
    expect(clear).to_have_text("Delete all 2?")
    expect(visit.cards).to_have_count(2)
    clear.click()
    expect(visit.cards).to_have_count(0)
    assert visit.stored() == []
    expect(visit.page.locator("#gallery")).to_contain_text("Your runs will be listed here")


@pytest.mark.browser
def test_keys_alone_are_enough(visit: Visit) -> None:
    visit.run(0, 1)
    visit.page.get_by_role("button", name="run 2").focus()
    visit.run(2)
    press = visit.page.keyboard.press
    for _ in range(30):
        if visit.page.evaluate("document.activeElement.matches('#gallery .open')"):
            break
        press("Shift+Tab")
    expect(visit.cards.last.locator(".open")).to_be_focused()
    press("Enter")
    expect(visit.page.get_by_label("Seed", exact=True)).to_have_value("7")
    press("Delete")
    expect(visit.cards).to_have_count(2)
    expect(visit.cards.last.locator(".open")).to_be_focused()
    press("Tab")
    expect(visit.cards.last.locator(".delete")).to_be_focused()
    press("Enter")
    expect(visit.cards).to_have_count(1)
    press("Delete")
    expect(visit.cards).to_have_count(0)
    expect(visit.page.get_by_role("heading", name="Recent runs")).to_be_focused()


@pytest.mark.browser
def test_a_run_whose_videos_are_gone_says_so_and_still_has_its_settings(browser: Browser, demo: Demo) -> None:
    visit = Visit(browser, demo)
    visit.run(0, 1)
    visit.page.route("**/*1.mp4", lambda route: route.fulfill(status=404))
    visit.page.reload()
    expect(visit.cards.first).to_contain_text("No longer on the server")
    expect(visit.cards.last).not_to_contain_text("No longer on the server")
    demo.restored.clear()
    visit.cards.first.locator(".open").click()
    expect(visit.page.get_by_label("Seed", exact=True)).to_have_value("8")
    assert demo.restored[0]["gone"] is True
    assert not visit.page.locator("#player video[data-part=right]").get_attribute("src")
    assert all("404" in error for error in visit.errors)
    visit.context.close()


@pytest.mark.browser
def test_the_oldest_go_when_there_are_too_many_or_the_storage_is_full(visit: Visit) -> None:
    fill = """(limit) => {
        const run = (n, poster) => ({run: `old-${n}`, poster, settings: {prompt: `${n}`, width: 4, height: 2, seed: n},
            comparison: {}, made: 0});
        const all = Array.from({length: limit}, (_, n) => run(n, "data:image/jpeg;base64," + "A".repeat(100)));
        localStorage.setItem("freeswim.runs", JSON.stringify(all));
    }"""
    visit.page.evaluate(fill, LIMIT)
    visit.page.reload()
    expect(visit.cards).to_have_count(LIMIT)
    visit.page.get_by_role("button", name="run 0").click()
    expect(visit.cards.first).to_contain_text(PROMPTS[0])
    expect(visit.cards).to_have_count(LIMIT)
    assert visit.stored()[-1]["run"] == f"old-{LIMIT - 2}"
    visit.page.evaluate(
        """() => {
            const used = Object.keys(localStorage).reduce((sum, key) => sum + key.length + localStorage[key].length, 0);
            localStorage.setItem("other", "x".repeat(5 * 1024 * 1024 - used - 300));
        }"""
    )
    visit.page.get_by_role("button", name="run 1").click()
    expect(visit.cards.first).to_contain_text(PROMPTS[1])
    assert visit.stored()[0]["run"] == "run-1"
    assert 1 < len(visit.stored()) < LIMIT


@pytest.mark.browser
def test_tabs_of_one_browser_share_the_list_and_browsers_do_not(browser: Browser, demo: Demo, visit: Visit) -> None:
    second = visit.open(demo.url)
    visit.run(0)
    expect(second.locator("#gallery li")).to_have_count(1)
    stranger = Visit(browser, demo)
    expect(stranger.page.locator("#gallery")).to_contain_text("will be listed here")
    stranger.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_phone_has_room(browser: Browser, demo: Demo, scheme: str) -> None:
    visit = Visit(browser, demo, viewport={"width": 390, "height": 800})
    visit.page.goto(f"{demo.url}?__theme={scheme}")
    visit.run(0, 1, 2)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not visit.serious("#gallery")
    visit.context.close()
