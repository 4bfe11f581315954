"""Visitors of the running page: a video of one's own, same but larger, several at once, and scripts beside them.

Small and short runs; the page's other tests are in test_app.py and test_app_browser.py.
"""

import base64
import importlib.util
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, expect

from freeswim.embedded import EXAMPLES
from freeswim.request import Request
from freeswim.video import Video, read_settings, read_video, write_video
from tests.visit import Visit

PROMPT = EXAMPLES[0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 frames at 30 a second of a disc over a gradient, 192x108."""
    y, x = np.mgrid[:108, :192]
    frames = np.empty((12, 108, 192, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[:] = np.stack([60 + y, 90 + x // 4, 200 - y], -1)
        frame[(x - 60 - 3 * i) ** 2 + (y - 40) ** 2 < 300] = (220, 40, 30)
    return write_video(tmp_path_factory.mktemp("own") / "mine.mp4", Video(frames, 30.0))


def wait_for(condition: Any, seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "it never came"
        time.sleep(0.1)
    return value


def test_a_script_refines_its_own_video(client: Client, clip: Path) -> None:
    job = client.submit(video=handle_file(str(clip)), prompt=PROMPT, resolution="288x162", steps=3, api_name="/refine")
    *videos, details = job.result(120)
    shapes = [read_video(path).frames.shape for path in videos]
    assert shapes == [(5, 162, 288, 3)] * 3
    assert [read_video(path).fps for path in videos] == [15.0] * 3
    assert "native" not in details["seconds"]
    stages = {output[3]["status"]["stage"] for output in job.outputs()}
    assert {"freeswim", "naive"} <= stages


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": ""}, "prompt=''"),
        ({"resolution": "7x7"}, "width=7"),
        ({"frames": 0}, "num_frames=0"),
        ({"strength": 0.01}, "selects no step"),
        ({"video": "text"}, "can't be read as a video"),
    ],
)
def test_bad_input_gives_a_refining_script_one_clear_error(
    client: Client, clip: Path, tmp_path: Path, bad: dict[str, Any], message: str
) -> None:
    if bad.get("video"):
        (tmp_path / "a.mp4").write_text("no video at all")
        bad = {"video": handle_file(str(tmp_path / "a.mp4"))}
    began = time.monotonic()
    with pytest.raises(AppError, match=message) as caught:
        client.predict(**{"video": handle_file(str(clip)), "prompt": PROMPT} | bad, api_name="/refine")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 5


def test_no_file_of_the_server_can_be_refined(client: Client, url: str) -> None:
    import httpx

    data = [{"path": str(Path(__file__)), "meta": {"_type": "gradio.FileData"}}, PROMPT]
    call = httpx.post(f"{url}gradio_api/call/refine", json={"data": data})
    answer = call.text
    if call.status_code == 200:
        answer = httpx.get(f"{url}gradio_api/call/refine/{call.json()['event_id']}", timeout=20).text
    assert "event: complete" not in answer
    assert "error" in answer


def test_what_does_not_fit_is_refused_with_what_does(client: Client) -> None:
    huge = {"prompt": PROMPT, "resolution": "8192x4608"}
    with pytest.raises(AppError, match=r"8192 × 4608 needs about .* GB of memory and there are .* would fit"):
        client.predict(**huge, api_name="/generate")
    estimate = client.predict(**huge, api_name="/estimate")
    assert "would fit" in estimate["refused"]


@pytest.mark.browser
def test_two_at_once_wait_for_each_other_and_get_their_own(browser: Browser, url: str, client: Client) -> None:
    job = client.submit(prompt=PROMPT, resolution="288x160", frames=5, steps=300, api_name="/generate")
    wait_for(lambda: any(output[3]["status"]["step"] >= 1 for output in job.outputs()))
    visits = [Visit(browser, url) for _ in range(2)]
    for visit, prompt in zip(visits, EXAMPLES[1:3], strict=True):
        visit.prompt.fill(prompt)
        visit.set_small(steps=1)
        visit.page.get_by_label("Resolution").fill("256x144")  # the native size: what is waited for is short
        visit.page.get_by_label("Resolution").press("Enter")
        visit.generate.click()
        expect(visit.status).to_contain_text("Waiting")
    expect(visits[0].status).to_contain_text("You are next")
    expect(visits[1].status).to_contain_text("number 2 in line")
    expect(visits[0].status).to_contain_text("begins in about")
    job.cancel()
    third = client.submit(prompt=PROMPT, resolution="256x144", frames=1, steps=1, api_name="/generate")
    waiting = wait_for(lambda: third.outputs())[-1][3]["status"]
    assert (waiting["state"], waiting["place"]) in (("waiting", 1), ("waiting", 2))
    for visit, prompt in zip(visits, EXAMPLES[1:3], strict=True):
        expect(visit.status).to_contain_text("Done", timeout=90_000)
        visit.page.get_by_role("tab", name="FreeSwim", exact=True).click()
        with visit.page.expect_download() as download:
            visit.page.locator("#freeswim-video").get_by_label("Download").click()
        settings = read_settings(download.value.path())
        assert settings is not None
        assert settings["prompt"] == prompt
        assert visit.errors == []
        visit.context.close()
    assert third.result(60)[3]["status"]["state"] == "done"


def test_a_cancelled_job_leaves_the_scripts_other_jobs_alone(client: Client) -> None:
    long, short = (
        client.submit(prompt=PROMPT, resolution="256x144", frames=1, steps=steps, api_name="/generate")
        for steps in (900, 1)
    )
    wait_for(lambda: any(output[3]["status"]["step"] >= 1 for output in long.outputs()))
    long.cancel()
    assert short.result(60)[3]["status"]["state"] == "done"


@pytest.mark.browser
def test_who_closes_the_page_makes_room(browser: Browser, url: str, client: Client) -> None:
    visit = Visit(browser, url)
    visit.set_small(steps=100)
    visit.generate.click()
    expect(visit.status).to_contain_text("of 100", timeout=60_000)
    visit.context.close()
    *_, details = client.predict(prompt=PROMPT, resolution="256x144", frames=1, steps=1, api_name="/generate")
    assert details["status"]["state"] == "done"


@pytest.mark.browser
def test_a_visitor_refines_a_video_and_goes_on_larger(visit: Visit, clip: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="Your own video").click()
    refine = page.get_by_role("button", name="Refine")
    refine.click()
    expect(page.locator("#clip").get_by_text("Choose the video to refine.")).to_be_visible()
    errors = visit.errors.copy()  # gradio answers a refused form with a status that the console calls an error
    assert all("422" in error for error in errors)
    visit.errors.clear()

    page.locator("#clip input[type=file]").set_input_files(clip)
    expect(page.locator("#clip-note")).to_contain_text("5 frames are used, the first 0.3 seconds, every second one")
    expect(page.get_by_label("Resolution")).to_have_value(re.compile("× yours"))
    page.get_by_label("Resolution").fill("288x162")
    page.get_by_label("Resolution").press("Enter")
    page.get_by_role("button", name="Advanced").click()
    steps = page.get_by_label("number input for Steps")
    steps.fill("2")
    steps.press("Tab")
    refine.click()
    expect(visit.status).to_contain_text("Done", timeout=90_000)
    for side in ("left", "right", "base"):
        video = page.locator(f"#comparison video[data-part={side}]")
        expect(video).to_have_js_property("videoWidth", 288)
        expect(video).to_have_js_property("videoHeight", 162)
    expect(page.get_by_text("Yours, enlarged").first).to_be_visible()
    expect(page.locator("#look")).to_contain_text("your video")

    larger = page.get_by_role("button", name=re.compile("Same, larger: "))
    size = re.search(r"(\d+) × (\d+)", larger.inner_text())
    assert size is not None
    assert int(size[1]) > 288
    larger.click()
    expect(visit.status).to_contain_text("FreeSwim", timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(visit.status).to_contain_text("Stopped")
    expect(larger).to_be_enabled()
    expect(page.locator("#comparison video[data-part=base]")).to_have_js_property("videoWidth", int(size[1]))
    assert visit.errors == []
    assert visit.hosts <= {"127.0.0.1", None}


@pytest.mark.browser
def test_a_preview_comes_before_any_video_and_the_seed_can_be_used_again(visit: Visit) -> None:
    page = visit.page
    page.get_by_label("New every run").check()
    visit.set_small(steps=24)
    visit.generate.click()
    preview = page.locator("#preview .whole img")
    expect(preview).to_be_visible(timeout=60_000)
    assert preview.evaluate("image => image.decode().then(() => image.naturalWidth)") >= 100
    expect(page.locator("#comparison video[data-part=base]")).to_have_js_property("videoWidth", 0)
    expect(page.locator("#preview .inset img")).to_be_visible(timeout=60_000)
    expect(page.locator("#comparison video[data-part=base]")).to_have_js_property("videoWidth", 256)
    page.get_by_role("button", name="Stop").click()
    expect(visit.status).to_contain_text("Stopped")
    expect(page.locator("#preview img")).to_have_count(0)
    seed = page.locator("#seed input[type=number]")
    used = seed.input_value()
    seed.fill("5")
    page.get_by_role("button", name="Use this seed again").click()
    expect(seed).to_have_value(used)
    expect(page.get_by_label("New every run")).not_to_be_checked()
    assert visit.errors == []


@pytest.mark.browser
def test_a_refused_upload_says_why(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 100)
    visit.page.get_by_role("tab", name="Your own video").click()
    visit.page.locator("#clip input[type=file]").set_input_files(tmp_path / "broken.mp4")
    expect(visit.page.locator("#clip-note [role=alert]")).to_contain_text("can't be read as a video")


@pytest.mark.browser
def test_a_video_dropped_anywhere_restores_its_settings(visit: Visit, tmp_path: Path) -> None:
    settings = Request(prompt=EXAMPLES[3], width=640, height=360, seed=78, steps=7, window=(6, 9)).resolved().to_dict()
    path = write_video(tmp_path / "mine.mp4", Video(np.zeros((1, 16, 16, 3), np.uint8), 16.0), settings)
    visit.page.evaluate(
        """data => {
            const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "mine.mp4", {type: "video/mp4"}));
            const event = type => new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: transfer});
            const place = document.querySelector("#intro h1");
            if (place.dispatchEvent(event("dragover"))) throw new Error("nothing takes the video");
            place.dispatchEvent(event("drop"));
        }""",
        base64.b64encode(path.read_bytes()).decode(),
    )
    expect(visit.prompt).to_have_value(EXAMPLES[3])
    visit.page.get_by_role("button", name="Advanced").click()
    for label, value in (("Steps", "7"), ("Window height", "6"), ("Window width", "9")):
        expect(visit.page.get_by_label(f"number input for {label}")).to_have_value(value)
    assert visit.errors == []


@pytest.mark.browser
def test_sliders_draw_follow_and_reset(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("button", name="Advanced").click()
    height, tile = (page.get_by_label(f"number input for {name} height") for name in ("Window", "Tile"))
    before = (height.input_value(), tile.input_value())
    drawing = page.locator("#diagram").inner_html()
    height.fill("4")
    height.press("Tab")
    expect(tile).not_to_have_value(before[1])
    page.wait_for_function("before => document.querySelector('#diagram').innerHTML !== before", arg=drawing)
    page.get_by_role("button", name="Reset to preset").click()
    expect(height).to_have_value(before[0])
    expect(tile).to_have_value(before[1])
    page.get_by_label("Resolution").fill("288x512")
    page.get_by_label("Resolution").press("Enter")
    expect(height).not_to_have_value(before[0])
    page.get_by_label("Resolution").fill("banana")
    page.get_by_label("Resolution").press("Tab")
    page.wait_for_timeout(500)
    assert visit.errors == []


@pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="needs gradio[mcp]")
def test_the_endpoints_are_tools(url: str) -> None:
    import asyncio

    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def ask() -> tuple[list[str], Any]:
        async with (
            streamablehttp_client(f"{url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = [tool.name for tool in (await session.list_tools()).tools]
            return tools, await session.call_tool("estimate", {"prompt": PROMPT, "quality": "draft"})

    with ThreadPoolExecutor(1) as elsewhere:  # the browser's own loop runs in this thread
        tools, answer = elsewhere.submit(asyncio.run, ask()).result(60)
    assert {"generate", "refine", "estimate"} <= set(tools)
    assert not answer.isError
    assert "'seconds':" in answer.content[0].text
