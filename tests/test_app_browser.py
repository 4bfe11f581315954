"""The whole page in headless Chromium: one run made with the keyboard alone, and what is seen of it and of the page."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.visit import Visit

pytestmark = pytest.mark.browser

PROMPT = "a yellow balloon rising over grey mountains and a calm sea"
FPS = 16


class KeyboardVisit(Visit):
    """The page, opened, by someone who waits for it and has no pointer."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        super().__init__(browser, url, **context)
        # The page's own first events are over: what is typed in the first moment may be set back by them.
        expect(self.page.locator("#estimate")).to_contain_text("About", timeout=20_000)
        self.player = self.page.locator("#comparison .compare")

    def tab_to(self, selector: str, key: str = "Tab") -> Locator:
        """Presses Tab (or Shift+Tab) until the focus is on `selector`, as long as a patient person would."""
        for _ in range(80):
            if self.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return self.page.locator(selector)
            self.page.keyboard.press(key)
        raise AssertionError(f"Tab never comes to {selector}")


@pytest.fixture(scope="module")
def finished(browser: Browser, url: str) -> Iterator[KeyboardVisit]:
    """A visit after a short run that was asked for, and is seen, without a pointer."""
    visit = KeyboardVisit(browser, url)
    press, page = visit.page.keyboard.press, visit.page
    visit.tab_to("#prompt textarea")
    press("Control+a")
    page.keyboard.type(PROMPT)
    visit.tab_to("#controls input[aria-label='Resolution']")
    press("Control+a")
    page.keyboard.type("288x160", delay=60)
    estimate = page.locator("#estimate b")
    before = estimate.inner_text()
    press("Tab")
    resolution = page.get_by_label("Resolution")
    expect(resolution).to_have_value("288x160")
    expect(estimate).not_to_have_text(before)
    before = estimate.inner_text()
    visit.tab_to("#quality input")
    press("Space")
    expect(estimate).not_to_have_text(before)
    visit.tab_to("#advanced > button")
    press("Enter")
    visit.tab_to("#advanced input[aria-label='number input for Steps']")
    before = estimate.inner_text()
    press("Control+a")
    page.keyboard.type("3", delay=20)
    visit.tab_to("#advanced > button", "Shift+Tab")
    expect(estimate).not_to_have_text(before)
    press("Enter")
    page.wait_for_timeout(300)  # what the fields' own changes move is not the run's
    page.evaluate(
        """() => {
            window.moved = [];
            const name = ({node}) => node?.id || node?.className || node?.nodeName;
            new PerformanceObserver(list => {
                for (const entry of list.getEntries()) {
                    if (!entry.hadRecentInput) window.moved.push({value: entry.value, what: entry.sources.map(name)});
                }
            }).observe({type: "layout-shift"});
        }"""
    )
    expect(resolution).to_have_value("288x160")
    visit.tab_to("#generate", "Shift+Tab")
    press("Enter")
    expect(visit.status).to_contain_text("step", timeout=60_000)
    expect(visit.status).to_contain_text("Done", timeout=200_000)
    left = page.locator("#comparison video[data-part=left]")
    expect(left).to_have_js_property("videoWidth", 288, timeout=20_000)
    expect(left).to_have_class("shown wiped")
    yield visit
    visit.context.close()


def test_the_run_is_what_was_typed(finished: KeyboardVisit) -> None:
    sizes = finished.page.evaluate(
        "[...document.querySelectorAll('#comparison video')].map(v => [v.videoWidth, v.videoHeight])"
    )
    assert sizes == [[288, 160], [288, 160], [256, 144]]
    finished.page.get_by_role("button", name="Details of the run").click()
    expect(finished.page.locator("#details")).to_contain_text(PROMPT)
    expect(finished.page.get_by_label("number input for Steps")).to_have_value("3")
    finished.page.get_by_role("button", name="Details of the run").click()


def test_nothing_moved_while_it_ran(finished: KeyboardVisit) -> None:
    moved = finished.page.evaluate("window.moved")
    assert sum(entry["value"] for entry in moved) < 0.01, moved


def test_keys_alone_are_enough_to_compare(finished: KeyboardVisit) -> None:
    press = finished.page.keyboard.press
    finished.tab_to("#comparison [data-part=handle]")
    press("Space")
    press("Home")
    count = finished.player.locator("output")
    expect(count).to_have_text("1 / 9")
    press(".")
    expect(count).to_have_text("2 / 9")
    press("ArrowLeft")
    expect(finished.page.locator("#comparison [data-part=handle]")).to_have_attribute("aria-valuenow", "48")
    press("l")
    expect(finished.player.locator("canvas")).to_be_visible()
    press("l")
    press("Space")
    finished.tab_to("#gallery button.open")


def _frames_shown(visit: KeyboardVisit, milliseconds: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """While it plays: the indices of the frames that both sides show, (N, 2), one row per new frame of either."""
    shown = visit.page.evaluate(
        """async ([fps, milliseconds]) => {
            const videos = [...document.querySelectorAll("#comparison video.shown")];
            const at = videos.map(() => null), rows = [];
            let on = true;
            videos.forEach((video, side) => {
                const note = (_, frame) => {
                    at[side] = Math.round(frame.mediaTime * fps);
                    if (on) video.requestVideoFrameCallback(note);
                };
                video.requestVideoFrameCallback(note);
            });
            const end = performance.now() + milliseconds;
            while (performance.now() < end) {
                await new Promise(requestAnimationFrame);
                if (!videos.some(video => video.seeking || video.paused) && !at.includes(null)) rows.push([...at]);
            }
            on = false;
            return rows;
        }""",
        [FPS, milliseconds],
    )
    return np.array(shown, dtype=float).reshape(-1, 2)


def test_both_sides_stay_within_a_frame_after_seeking_and_wiping(finished: KeyboardVisit) -> None:
    page = finished.page
    finished.player.scroll_into_view_if_needed()
    box = finished.player.locator(".screen").bounding_box()
    assert box is not None
    for disturb in ("nothing", "seek", "wipe"):
        if finished.player.get_by_role("button", name="Play", exact=True).count():
            finished.player.get_by_role("button", name="Play", exact=True).click()
        if disturb == "seek":
            finished.player.get_by_role("slider", name="Frame").fill("5")
            finished.player.get_by_role("button", name="Play", exact=True).click()
        elif disturb == "wipe":
            page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2)
            page.mouse.down()
            page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=5)
            page.mouse.up()
        frames = _frames_shown(finished, 1800)
        assert len(frames) > 10, disturb
        apart = np.abs(frames[:, 0] - frames[:, 1])
        apart = np.minimum(apart, 9 - apart)  # one side starts over a moment before the other
        assert apart.max() <= 1, (disturb, frames)
        assert len(set(frames[:, 0])) > 4, "it does not play"


def test_the_run_is_in_the_gallery_and_survives_a_reload(finished: KeyboardVisit) -> None:
    second = finished.context.new_page()
    second.goto(finished.page.url)
    card = second.locator("#gallery li")
    expect(card).to_have_count(1)
    expect(card).to_contain_text(PROMPT)
    expect(card).to_contain_text("288 × 160")
    card.locator(".open").click()
    expect(second.locator("#comparison video[data-part=left]")).to_have_js_property("videoWidth", 288, timeout=10_000)
    expect(second.get_by_role("textbox", name="Prompt", exact=True)).to_have_value(PROMPT)
    expect(second.locator("#look")).to_have_text(finished.page.locator("#look").inner_text())
    second.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_after_a_run(finished: KeyboardVisit, scheme: str) -> None:
    page = finished.page
    page.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "dark")
    page.wait_for_timeout(500)  # colours fade
    for name in ("FreeSwim", "Native", "Compare"):
        page.get_by_role("tab", name=name, exact=True).click()
        assert not finished.serious(), name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_form(browser: Browser, url: str, scheme: str) -> None:
    visit = KeyboardVisit(browser, f"{url}?__theme={scheme}")
    visit.page.get_by_role("button", name="Advanced").click()
    visit.page.wait_for_timeout(500)
    assert not visit.serious()
    visit.page.get_by_role("tab", name="Your own video").click()
    visit.page.wait_for_timeout(500)
    assert not visit.serious()
    assert visit.errors == []
    visit.context.close()


def test_a_list_of_choices_is_open_only_while_one_is_in_it(browser: Browser, url: str) -> None:
    visit = KeyboardVisit(browser, url)
    resolution, choices = visit.page.get_by_label("Resolution"), visit.page.locator("#controls ul[role=listbox]")
    resolution.click()
    choices.get_by_role("option").nth(1).click()
    expect(resolution).to_have_value("768 × 432,  3×")
    resolution.click()
    visit.page.keyboard.press("Control+a")
    visit.page.keyboard.type("384x224", delay=20)
    visit.page.keyboard.press("Tab")
    expect(resolution).to_have_value("384x224")
    visit.page.get_by_role("tab", name="Your own video").click()
    visit.page.wait_for_timeout(500)
    visit.page.get_by_role("tab", name="New video").click()
    visit.page.wait_for_timeout(500)
    assert not any(choice.is_visible() for choice in choices.all())
    visit.context.close()


def test_a_phone_goes_to_the_result_and_keeps_stop_in_sight(browser: Browser, url: str) -> None:
    visit = KeyboardVisit(browser, url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    resolution, stop = visit.page.get_by_label("Resolution"), visit.page.get_by_role("button", name="Stop")
    for typed in ("banana", "256x160"):  # what is no size yet is nobody's mistake
        resolution.fill(typed)
        resolution.press("Tab")
        visit.page.wait_for_timeout(500)
    visit.page.get_by_role("button", name="Generate").tap()
    expect(visit.status).to_contain_text("step", timeout=60_000)
    for seen in (visit.status, visit.player.locator(".screen"), stop):
        expect(seen).to_be_in_viewport()
    stop.tap()
    expect(visit.status).to_contain_text("Stopped")
    assert visit.errors == []
    visit.context.close()


def test_nothing_went_wrong_and_nothing_left_the_machine(finished: KeyboardVisit) -> None:
    assert finished.errors == []
    assert finished.hosts <= {"127.0.0.1", None}
