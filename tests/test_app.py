"""The running app on the embedded model, through gradio_client and in headless Chromium.

Small and short runs (5 frames, few steps): what is tested is the page, not the pictures.
"""

import time
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, expect

from freeswim.embedded import EXAMPLES
from freeswim.request import Request
from freeswim.video import Video, read_settings, read_video, write_video
from tests.visit import SMALL, Visit

PROMPT = EXAMPLES[0]


def test_a_script_gets_three_videos_and_the_details(client: Client) -> None:
    freeswim, naive, native, details = client.predict(prompt=PROMPT, seed=1, **SMALL, api_name="/generate")
    videos = [read_video(path) for path in (freeswim, naive, native)]
    assert [video.frames.shape for video in videos] == [(5, 160, 288, 3), (5, 160, 288, 3), (5, 144, 256, 3)]
    assert all(video.frames.std() > 0 for video in videos)
    assert not np.array_equal(videos[0].frames, videos[1].frames)
    assert details["status"]["state"] == "done"
    assert details["settings"]["steps"] == 2
    assert details["unknown_words"] == []
    settings = read_settings(freeswim)
    assert settings is not None
    assert (settings["prompt"], settings["seed"]) == (PROMPT, 1)


def test_a_script_learns_what_a_run_would_take(client: Client) -> None:
    small, large = (
        client.predict(prompt=PROMPT, resolution=size, quality="draft", api_name="/estimate")
        for size in ("512x288", "768x432")
    )
    assert 0 < small["seconds"] < large["seconds"]
    assert 0 < small["memory"] < large["memory"]
    assert small["settings"]["steps"] == 8
    with pytest.raises(AppError, match="steps=0"):
        client.predict(prompt=PROMPT, steps=0, api_name="/estimate")


@pytest.mark.browser
def test_a_quality_sets_its_fields_and_the_expected_time(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("#estimate")).to_contain_text("About")
    before = page.locator("#estimate").inner_text()
    page.get_by_label("Draft").click()
    expect(page.locator("#estimate")).not_to_have_text(before)
    page.get_by_role("button", name="Advanced").click()
    expect(page.get_by_label("number input for Steps")).to_have_value("8")
    expect(page.get_by_label("number input for Frames")).to_have_value("9")
    assert visit.errors == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": ""}, "prompt=''"),
        ({"resolution": "0x288"}, "width=0"),
        ({"resolution": "wide"}, "'wide'"),
        ({"strength": 2}, "strength=2"),
        ({"steps": 0}, "steps=0"),
        ({"model": "nothing"}, "model='nothing'"),
        ({"frames": "many"}, "'many'"),
    ],
)
def test_bad_input_gives_a_script_one_clear_error(client: Client, bad: dict[str, object], message: str) -> None:
    began = time.monotonic()
    with pytest.raises(AppError, match=message) as caught:
        client.predict(**({"prompt": PROMPT} | bad), api_name="/generate")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 5


def test_a_cancelled_job_makes_room_for_the_next_one(client: Client) -> None:
    job = client.submit(prompt=PROMPT, resolution="288x160", frames=5, steps=500, api_name="/generate")
    until = time.monotonic() + 60
    while not any(output[3]["status"]["step"] >= 2 for output in job.outputs()):
        assert time.monotonic() < until, "the job never made a step"
        time.sleep(0.1)
    status = job.outputs()[-1][3]["status"]
    assert (status["stage"], status["total"]) == ("native", 500)
    job.cancel()
    *_, details = client.predict(prompt=PROMPT, resolution="256x144", frames=5, steps=1, api_name="/generate")
    assert details["status"]["state"] == "done"


@pytest.mark.browser
def test_a_visitor_types_a_prompt_and_gets_two_playing_videos(visit: Visit) -> None:
    page = visit.page
    visit.prompt.fill(EXAMPLES[1])
    visit.set_small(steps=2)
    visit.generate.click()
    expect(visit.status).to_contain_text("of 2", timeout=60_000)
    expect(visit.generate).to_be_disabled()
    native = page.locator("#comparison video[data-part=base]")
    expect(native).to_have_js_property("videoWidth", 256, timeout=60_000)
    expect(visit.status).to_contain_text("Done", timeout=120_000)
    page.wait_for_function(
        """() => {
            const pair = ["left", "right"].map(side => document.querySelector(`#comparison video[data-part=${side}]`));
            return pair.every(v => v.readyState >= 3 && v.videoWidth === 288 && v.videoHeight === 160);
        }""",
        timeout=20_000,
    )
    page.get_by_role("tab", name="FreeSwim", exact=True).click()
    expect(page.locator("#freeswim-video")).to_contain_text("288 × 160")
    expect(page.locator("#freeswim-video video")).to_have_js_property("videoWidth", 288)
    with page.expect_download() as download:
        page.locator("#freeswim-video").get_by_label("Download").click()
    assert read_video(download.value.path()).frames.shape == (5, 160, 288, 3)
    page.get_by_role("tab", name="Native", exact=True).click()
    expect(page.locator("#base-video")).to_contain_text("256 × 144")
    page.get_by_role("button", name="Details of the run").click()
    expect(page.locator("#details")).to_contain_text("seconds")
    expect(visit.generate).to_be_enabled()
    assert visit.errors == []
    assert visit.hosts <= {"127.0.0.1", None}


@pytest.mark.browser
def test_stop_ends_a_run_and_the_next_one_starts(visit: Visit) -> None:
    visit.set_small(steps=100)
    stop = visit.page.get_by_role("button", name="Stop")
    expect(stop).to_be_disabled()
    visit.generate.click()
    expect(visit.status).to_contain_text("of 100", timeout=60_000)
    stop.click()
    expect(visit.status).to_contain_text("Stopped")
    expect(visit.generate).to_be_enabled()
    expect(stop).to_be_disabled()
    visit.page.wait_for_timeout(1500)  # longer than an answer of the run may be on its way
    expect(visit.status).to_contain_text("Stopped")
    field = visit.page.get_by_label("number input for Steps")
    field.fill("1")
    field.press("Tab")
    visit.generate.click()
    expect(visit.status).to_contain_text("Done", timeout=60_000)
    assert visit.errors == []


@pytest.mark.browser
def test_examples_words_and_refused_values_are_shown_where_they_belong(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("button", name=EXAMPLES[2]).click()
    expect(visit.prompt).to_have_value(EXAMPLES[2])
    visit.prompt.fill("a dragon over the sea")
    expect(page.locator("#prompt-note")).to_contain_text("Unknown to this model: dragon")
    page.get_by_label("Resolution").fill("banana")
    page.get_by_label("Resolution").press("Tab")
    visit.generate.click()
    message = page.locator("#controls").get_by_text("'banana' isn't understood")
    expect(message).to_be_visible()
    field, below = page.get_by_label("Resolution").bounding_box(), message.bounding_box()
    assert field is not None
    assert below is not None
    assert below["y"] >= field["y"] + field["height"], "the message covers its field"
    expect(visit.status).to_contain_text("Ready")


@pytest.mark.browser
def test_a_dropped_video_restores_its_settings(visit: Visit, tmp_path: Path) -> None:
    settings = Request(prompt=EXAMPLES[3], width=768, height=432, seed=77, steps=6, num_frames=9).resolved().to_dict()
    path = write_video(tmp_path / "mine.mp4", Video(np.zeros((1, 16, 16, 3), np.uint8), 16.0), settings)
    visit.page.locator("#restore input[type=file]").set_input_files(path)
    expect(visit.prompt).to_have_value(EXAMPLES[3])
    expect(visit.page.locator("#seed input[type=number]")).to_have_value("77")
    visit.page.get_by_role("button", name="Advanced").click()
    expect(visit.page.get_by_label("number input for Steps")).to_have_value("6")
    expect(visit.page.get_by_label("number input for Frames")).to_have_value("9")
    assert visit.errors == []


@pytest.mark.browser
def test_a_dropped_video_without_settings_changes_nothing_and_says_so(visit: Visit, tmp_path: Path) -> None:
    path = write_video(tmp_path / "other.mp4", Video(np.zeros((1, 16, 16, 3), np.uint8), 16.0))
    before = visit.prompt.input_value()
    visit.page.locator("#restore input[type=file]").set_input_files(path)
    expect(visit.page.get_by_text("holds no settings")).to_be_visible()
    expect(visit.prompt).to_have_value(before)


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1024, 1600])
def test_the_page_fits_its_window(browser: Browser, url: str, width: int) -> None:
    visit = Visit(browser, url, viewport={"width": width, "height": 900})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    box = visit.page.locator("#comparison video[data-part=right]").locator("..").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert box["width"] > 300
    visit.context.close()


def test_passing_by_the_model_changes_nothing(visit: Visit) -> None:
    """Gradio tells of input when the focus leaves the field, whether or not another model was chosen."""
    visit.set_small(steps=3)
    visit.page.get_by_label("Model").focus()
    visit.page.keyboard.press("Tab")
    visit.page.wait_for_timeout(1000)
    expect(visit.page.get_by_label("Resolution")).to_have_value("288x160")
    expect(visit.page.get_by_label("number input for Steps")).to_have_value("3")
