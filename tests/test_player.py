"""The comparison player in headless Chromium, on synthetic videos whose frames carry their index as black and white
blocks over a noise of their own colour (left red, right blue, native green)."""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, FloatRect, expect

from freeswim.page.player import ComparePlayer, ComparisonData, ComparisonValue
from freeswim.page.theme import CSS_PATH, theme
from freeswim.video import Video, read_video, write_video
from tests.visit import Watched

FRAMES, FPS, WIDTH, HEIGHT = 29, 12, 512, 288
BITS, BLOCK = 5, 24

# Reads the index of a video's frame from its pixels: 5 blocks at the bottom left, as a share of the picture.
READ = """(video) => {
    const canvas = new OffscreenCanvas(512, 288), pen = canvas.getContext("2d", {willReadFrequently: true});
    pen.drawImage(video, 0, 0, 512, 288);
    let index = 0;
    for (let bit = 0; bit < 5; bit++) index += (pen.getImageData(12 + 24 * bit, 276, 1, 1).data[1] > 128) << bit;
    return index;
}"""
READ_ALL = f"""(name) => [...document.querySelectorAll(`#${{name}} video.shown`)].map({READ})"""


def _frames(channel: int, width: int, height: int) -> NDArray[np.uint8]:
    """Noise of 4x4 pixels in one colour channel, the same in every frame, and the frame's index in blocks."""
    noise = np.random.default_rng(channel).integers(60, 255, (height // 4, width // 4), dtype=np.uint8)
    frames = np.zeros((FRAMES, height, width, 3), np.uint8)
    frames[..., channel] = noise.repeat(4, 0).repeat(4, 1)
    block = BLOCK * width // WIDTH
    for index, frame in enumerate(frames):
        for bit in range(BITS):
            frame[-block:, bit * block : (bit + 1) * block] = 255 * (index >> bit & 1)
    return frames


@dataclass(frozen=True)
class Demo:
    """A running page with two players, `#full` and `#other`, and where its videos are."""

    url: str
    files: dict[str, Path]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("player")
    files = {}
    for channel, (name, scale) in enumerate({"left": 1, "base": 2, "right": 1}.items()):
        video = Video(_frames(channel, WIDTH // scale, HEIGHT // scale), FPS)
        files[name] = write_video(folder / f"{name}.mp4", video)

    def value(*names: str) -> ComparisonValue:
        paths: dict[str, Any] = {name: files[name] for name in names}
        return ComparisonValue(**paths, fps=FPS, width=WIDTH, height=HEIGHT)

    with gr.Blocks(analytics_enabled=False) as page:
        full = ComparePlayer(value("left", "right", "base"), label="Comparison", elem_id="full")
        other = ComparePlayer(label="Another", elem_id="other")
        for text, names in {"nothing": None, "size": [], "right": ["right"], "pair": ["left", "right"]}.items():
            new = None if names is None else value(*names)
            gr.Button(f"other {text}").click(lambda new=new: new, None, other, show_progress="hidden")
        swapped = ComparisonValue(left=files["right"], right=files["left"], left_label="A", right_label="B", fps=FPS)
        gr.Button("full swapped").click(lambda: swapped, None, full, show_progress="hidden")
        stripes = np.zeros((2, 2160, 3840, 3), np.uint8)
        stripes[:, :, ::2] = 255
        huge = write_video(folder / "huge.mp4", Video(stripes, FPS))
        gr.Button("full 4K").click(lambda: ComparisonValue(right=huge, fps=FPS), None, full, show_progress="hidden")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page.launch(
        server_name="127.0.0.1",
        server_port=port,
        theme=theme(),
        css_paths=CSS_PATH,
        ssr_mode=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    yield Demo(f"http://127.0.0.1:{port}/", files)
    page.close()


class Visit(Watched):
    """The page, opened; `player` is the element of one of its players."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        super().__init__(browser, **({"viewport": {"width": 1000, "height": 900}} | context))
        self.page = self.open(url)
        self.player = self.page.locator("#full .compare")
        self.other = self.page.locator("#other .compare")
        self.screen = self.player.locator(".screen")
        self.handle = self.player.get_by_role("slider", name="Wipe")
        expect(self.player).to_have_attribute("data-state", "pair", timeout=20_000)

    def indices(self) -> list[int]:
        """The frame indices that the pixels of the shown videos carry, the right one's first."""
        indices: list[int] = self.page.evaluate(READ_ALL, "full")
        return indices

    def pause(self) -> None:
        """Paused, on one frame and not on its way to another."""
        pause = self.player.get_by_role("button", name="Pause")
        if pause.count():
            pause.click()
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_function(
            "[...document.querySelectorAll('#full video.shown')].every(v => !v.seeking && v.paused)"
        )

    def pixel(self, x: float, y: float) -> tuple[float, float, float]:
        """The screen's colour at a share of its width and height, from a screenshot."""
        box = self.box()
        left, top = box["x"] + x * box["width"] - 2, box["y"] + y * box["height"] - 2
        shot = self.page.screenshot(clip={"x": left, "y": top, "width": 5, "height": 5})
        red, green, blue = self.page.evaluate(
            """async (bytes) => {
                const image = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
                const pen = new OffscreenCanvas(5, 5).getContext("2d");
                pen.drawImage(image, 0, 0);
                const data = pen.getImageData(0, 0, 5, 5).data;
                return [0, 1, 2].map(c => data.filter((_, i) => i % 4 === c).reduce((sum, x) => sum + x / 25, 0));
            }""",
            list(shot),
        )
        return red, green, blue

    def side(self, x: float) -> str:
        """Which video is seen at a share of the width."""
        return ("left", "base", "right")[int(np.argmax(self.pixel(x, 0.3)))]

    def box(self) -> FloatRect:
        box = self.screen.bounding_box()
        assert box is not None
        return box

    def at(self, x: float, y: float) -> tuple[float, float]:
        box = self.box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def fine(self) -> None:
        """Nothing went wrong, and nothing was asked of another machine."""
        assert self.errors == []
        assert self.hosts <= {"127.0.0.1", None}


@pytest.fixture
def visit(browser: Browser, demo: Demo) -> Iterator[Visit]:
    visit = Visit(browser, demo.url)
    yield visit
    visit.fine()
    visit.context.close()


def test_paths_become_served_files_and_paths_again(demo: Demo) -> None:
    player = ComparePlayer(render=False)
    data = player.postprocess(ComparisonValue(right=demo.files["right"], fps=24, width=64, height=32))
    assert isinstance(data, ComparisonData)
    assert data.right is not None
    assert (data.right.path, data.left, data.fps) == (str(demo.files["right"]), None, 24)
    back = player.preprocess(data)
    assert back is not None
    assert back.right == str(demo.files["right"])
    assert player.postprocess(None) is None
    assert player.preprocess(None) is None
    assert "right" in player.api_info()["properties"]


@pytest.mark.parametrize(
    ("bad", "message"), [({"fps": 0}, "fps=0"), ({"width": 5}, "width=5"), ({"width": 0, "height": 2}, "width=0")]
)
def test_a_value_that_makes_no_sense_is_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComparisonValue(**bad)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"right='nowhere\.mp4'"):
        ComparePlayer(render=False).postprocess(ComparisonValue(right="nowhere.mp4"))


def test_the_markup_is_no_template() -> None:
    player = ComparePlayer(render=False)
    for template in (player.html_template, player.css_template):
        assert not re.search(r"[`\\$]|{{", template)


@pytest.mark.browser
def test_both_play_in_step_and_repeat(visit: Visit) -> None:
    sizes = visit.page.evaluate("[...document.querySelectorAll('#full video')].map(v => [v.videoWidth, v.videoHeight])")
    assert sizes == [[512, 288], [512, 288], [256, 144]]
    visit.page.wait_for_timeout(500)
    pairs = visit.page.evaluate(
        f"""async () => {{
            const read = {READ}, videos = [...document.querySelectorAll("#full video.shown")], pairs = [];
            const end = performance.now() + 4000; // more than one repeat
            while (performance.now() < end) {{
                await new Promise(requestAnimationFrame);
                const ahead = videos[0].currentTime - videos[1].currentTime;
                if (!videos.some(v => v.seeking || v.paused)) pairs.push([...videos.map(read), Math.abs(ahead)]);
            }}
            return pairs;
        }}"""
    )
    right, left, drift = np.array(pairs).T
    assert len(right) > 30
    assert np.abs(right - left).max() <= 1
    assert np.median(drift) < 0.5 / FPS
    assert len(set(right)) > FRAMES // 2
    assert (np.diff(right) < 0).any(), "it never started again"


@pytest.mark.browser
def test_pause_seek_and_step_are_exact(visit: Visit) -> None:
    visit.pause()
    first, second = visit.indices()
    assert first == second
    count = visit.player.locator("output")
    expect(count).to_have_text(f"{first + 1} / {FRAMES}")
    time = visit.player.get_by_role("slider", name="Frame")
    for frame in (0, 7, 20, FRAMES - 1):
        time.fill(str(frame))
        visit.settle()
        assert visit.indices() == [frame, frame]
    for name, frame in (("One frame back", 27), ("One frame back", 26), ("One frame on", 27)):
        visit.player.get_by_role("button", name=name).click()
        visit.settle()
        assert visit.indices() == [frame, frame]
    visit.page.mouse.click(*visit.at(0.2, 0.5))
    visit.settle()
    assert visit.indices() == [27, 27]


@pytest.mark.browser
def test_the_handle_divides_the_picture(visit: Visit) -> None:
    visit.pause()
    assert (visit.side(0.3), visit.side(0.7)) == ("left", "right")
    mouse = visit.page.mouse
    mouse.move(*visit.at(0.5, 0.5))
    mouse.down()
    mouse.move(*visit.at(0.8, 0.5), steps=3)
    mouse.up()
    expect(visit.handle).to_have_attribute("aria-valuenow", "80")
    assert (visit.side(0.7), visit.side(0.9)) == ("left", "right")
    mouse.move(*visit.at(0.1, 0.5))
    expect(visit.handle).to_have_attribute("aria-valuenow", "80")
    mouse.click(*visit.at(0.2, 0.5))
    assert (visit.side(0.1), visit.side(0.3)) == ("left", "right")
    visit.player.get_by_role("radio", name="Native, enlarged").check()
    visit.settle()
    expect(visit.player.locator("[data-part=left-tag]")).to_have_text("Native, enlarged")
    assert (visit.side(0.1), visit.side(0.3)) == ("base", "right")
    assert len(set(visit.indices())) == 1


@pytest.mark.browser
def test_keys_alone_are_enough(visit: Visit) -> None:
    press = visit.page.keyboard.press
    for _ in range(10):
        if visit.page.evaluate("document.activeElement.dataset.part === 'handle'"):
            break
        press("Tab")
    expect(visit.handle).to_be_focused()
    assert visit.page.evaluate("document.activeElement.matches(':focus-visible')")
    press("Space")
    visit.settle()
    press("Home")
    visit.settle()
    assert visit.indices() == [0, 0]
    for key, frame in ((".", 1), ("Shift+ArrowRight", 2), (",", 1), ("End", FRAMES - 1), ("Shift+ArrowLeft", 27)):
        press(key)
        visit.settle()
        assert visit.indices() == [frame, frame], key
    for _ in range(5):
        press("ArrowLeft")
    expect(visit.handle).to_have_attribute("aria-valuenow", "40")
    expect(visit.handle).to_have_attribute("aria-valuetext", "40 % Naive sliding windows")
    assert visit.side(0.45) == "right"
    press("l")
    expect(visit.player.locator("canvas")).to_be_visible()
    press("l")
    expect(visit.player.locator("canvas")).to_be_hidden()
    press("f")
    visit.page.wait_for_function("document.fullscreenElement?.classList.contains('compare')")
    press("f")
    visit.page.wait_for_function("!document.fullscreenElement")
    press("Space")
    expect(visit.player.get_by_role("button", name="Pause")).to_be_visible()


def _lens(visit: Visit) -> NDArray[np.uint8]:
    """The lens's pixels, (side, side, 3)."""
    side, data = visit.page.evaluate(
        """() => {
            const lens = document.querySelector("#full canvas");
            return [lens.width, [...lens.getContext("2d").getImageData(0, 0, lens.width, lens.width).data]];
        }"""
    )
    return np.array(data, np.uint8).reshape(side, side, 4)[..., :3]


@pytest.mark.browser
def test_the_lens_shows_the_files_own_pixels_of_both_sides(visit: Visit, demo: Demo) -> None:
    visit.pause()
    visit.player.get_by_role("button", name="Lens", exact=True).click()
    zoom = visit.player.locator("[data-part=zoom]")
    while zoom.inner_text() != "1×":
        zoom.click()
    visit.page.mouse.move(*visit.at(0.5, 0.4))
    frame = visit.indices()[0]
    source = {name: read_video(demo.files[name]).frames[frame] for name in ("left", "right")}
    for scale in (1, 2):
        lens = _lens(visit)
        side = len(lens)
        for name, from_x in (("left", side // 4), ("right", 3 * side // 4)):
            seen = lens[side // 2 - 20 : side // 2 + 20, from_x - 20 : from_x + 20].astype(int)
            span = side // scale
            x0, y0 = round(0.5 * WIDTH - span / 2), round(0.4 * HEIGHT - span / 2)
            rows = np.arange(side // 2 - 20, side // 2 + 20) // scale + y0
            columns = np.arange(from_x - 20, from_x + 20) // scale + x0
            errors = {
                shift: np.abs(source[name][rows][:, columns + shift].astype(int) - seen).mean() for shift in (-4, 0, 4)
            }
            assert errors[0] < 8, (scale, name, errors)
            assert min(errors[-4], errors[4]) > 2 * errors[0] + 5, "the check could not tell one place from another"
        zoom.click()


@pytest.mark.browser
def test_a_finger_drags_the_handle_and_moves_the_lens(browser: Browser, demo: Demo) -> None:
    visit = Visit(browser, demo.url, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    visit.pause()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    visit.screen.scroll_into_view_if_needed()
    cdp = visit.context.new_cdp_session(visit.page)

    def drag(*points: tuple[float, float]) -> None:
        for index, (x, y) in enumerate(points):
            where = dict(zip("xy", visit.at(x, y), strict=True))
            kind = "touchStart" if index == 0 else "touchMove"
            cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [where]})
        cdp.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    lens = visit.player.get_by_role("button", name="Lens", exact=True)
    lens.tap()
    expect(visit.player.locator("canvas")).to_be_visible()
    before = visit.player.locator("canvas").bounding_box()
    drag((0.2, 0.8), (0.25, 0.8), (0.3, 0.9))
    after = visit.player.locator("canvas").bounding_box()
    assert before != after
    expect(visit.handle).to_have_attribute("aria-valuenow", "50")
    drag((0.5, 0.5), (0.55, 0.5), (0.65, 0.5), (0.75, 0.5))
    expect(visit.handle).to_have_attribute("aria-valuenow", "75")
    visit.fine()
    visit.context.close()


@pytest.mark.browser
def test_a_video_that_cannot_be_had_says_so_and_can_be_tried_again(browser: Browser, demo: Demo) -> None:
    visit = Visit(browser, demo.url)
    missing = lambda route: route.fulfill(status=404)  # noqa: E731
    visit.page.route("**/right.mp4", missing)
    visit.page.get_by_role("button", name="other right").click()
    trouble = visit.other.locator(".trouble")
    expect(trouble).to_contain_text("“FreeSwim” could not be loaded: it is gone from the server")
    expect(visit.other).to_have_attribute("data-state", "empty")
    visit.page.get_by_role("button", name="other pair").click()
    expect(visit.other).to_have_attribute("data-state", "single")
    expect(visit.other.locator("[data-part=left-tag]")).to_have_text("Naive sliding windows")
    expect(trouble).to_be_visible()
    visit.page.unroute("**/right.mp4", missing)
    visit.other.get_by_role("button", name="Try again").click()
    expect(trouble).to_be_hidden()
    expect(visit.other).to_have_attribute("data-state", "pair")
    assert all("404" in error for error in visit.errors)
    visit.context.close()


@pytest.mark.browser
def test_the_lens_shows_single_pixels_of_4k_on_a_phone(browser: Browser, demo: Demo) -> None:
    visit = Visit(browser, demo.url, viewport={"width": 390, "height": 800}, device_scale_factor=3, has_touch=True)
    visit.page.get_by_role("button", name="full 4K").click()
    expect(visit.player.locator("video[data-part=right]")).to_have_js_property("videoWidth", 3840, timeout=15_000)
    visit.pause()
    visit.player.get_by_role("button", name="Lens", exact=True).tap()
    expect(visit.player.get_by_role("button", name="1×, Lens at 100 %")).to_be_visible()
    visit.page.touchscreen.tap(*visit.at(0.75, 0.5))
    lens = _lens(visit)
    side = len(lens)
    assert side >= 360  # the screen's own pixels, three to one of CSS
    # Stripes of one pixel on the right: seen as such only where one pixel of the video is one of the lens.
    row = lens[side // 2, side // 2 + 10 : side // 2 + 110, 1].astype(int)
    assert np.abs(np.diff(row)).mean() > 100
    visit.fine()
    visit.context.close()


@pytest.mark.browser
def test_values_come_one_after_another_without_a_jump(visit: Visit) -> None:
    page, other = visit.page, visit.other
    expect(other).to_contain_text("will play here")
    heights = []

    def give(text: str, state: str) -> None:
        page.get_by_role("button", name=f"other {text}").click()
        expect(other).to_have_attribute("data-state", state)
        box = other.bounding_box()
        assert box is not None
        heights.append(round(box["height"]))

    give("size", "empty")
    give("right", "single")
    expect(other.locator("[data-part=right-tag]")).to_have_text("FreeSwim")
    expect(other.get_by_role("slider", name="Wipe")).to_be_hidden()
    page.wait_for_function("document.querySelector('#other video.shown').currentTime > 0.3")
    give("pair", "pair")
    assert page.evaluate("document.querySelector('#other video').currentTime") > 0.1, "the first video began anew"
    page.wait_for_function("[...document.querySelectorAll('#other video.shown')].every(v => !v.paused)")
    assert len(set(heights)) == 1
    expect(visit.handle).to_have_attribute("aria-valuenow", "50")
    other.get_by_role("slider", name="Wipe").press("ArrowLeft")
    expect(visit.handle).to_have_attribute("aria-valuenow", "50")
    give("nothing", "empty")
    expect(other.get_by_role("button", name="Play")).to_be_disabled()
    page.get_by_role("button", name="full swapped").click()
    expect(visit.player.locator("[data-part=left-tag]")).to_have_text("A")
    expect(visit.player).to_have_attribute("data-state", "pair")
    visit.player.scroll_into_view_if_needed()
    assert (visit.side(0.3), visit.side(0.7)) == ("right", "left")


@pytest.mark.browser
def test_who_wants_less_motion_starts_it_himself(browser: Browser, demo: Demo) -> None:
    visit = Visit(browser, demo.url, reduced_motion="reduce")
    visit.page.wait_for_timeout(500)
    assert visit.indices() == [0, 0]
    visit.player.get_by_role("button", name="Play").click()
    visit.page.wait_for_function("document.querySelector('#full video').currentTime > 0.3")
    visit.fine()
    visit.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, demo: Demo, scheme: str) -> None:
    visit = Visit(browser, f"{demo.url}?__theme={scheme}")
    visit.pause()
    visit.player.get_by_role("button", name="Lens", exact=True).click()
    for player in ("#full", "#other"):
        assert not visit.serious(player)
    visit.fine()
    visit.context.close()
