"""The command line: what it writes and prints, and that bad input costs one line and no model."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from freeswim import cli
from freeswim.arguments import build_parser, request_of
from freeswim.cli import OUT_OF_MEMORY, REFUSED, STOPPED, main
from freeswim.plan import make_plan
from freeswim.request import Request
from freeswim.video import Video, read_settings, read_video, write_video
from tests.wan import save_tiny_checkpoint

FACTS = {"native_width": 80, "native_height": 64, "native_frames": 5, "default_steps": 3, "max_sequence_length": 8}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    (folder / "freeswim.json").write_text(json.dumps(FACTS))
    return str(folder)


def last_json(text: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return values


def test_the_whole_way(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "out.mp4"
    options = ["a red sun", "--model", model, "--size", "146x114", "--seed", "7", "--output", str(output), "--compare"]
    assert main(options) == 0
    printed = capsys.readouterr()
    report = last_json(printed.out)
    assert report["paths"] == {
        "base": str(output.with_name("out.base.mp4")),
        "freeswim": str(output),
        "naive": str(output.with_name("out.naive.mp4")),
    }
    assert report["settings"]["seed"] == 7
    assert report["settings"]["window"] == [4, 5]
    assert {"load", "native", "freeswim", "decode naive", "total"} <= set(report["seconds"])
    for stage in ("load", "native", "freeswim", "naive"):
        assert stage in printed.err
    assert "left" in printed.err

    videos = {name: read_video(path) for name, path in report["paths"].items()}
    assert videos["base"].frames.shape == (5, 64, 80, 3)
    assert videos["freeswim"].frames.shape == videos["naive"].frames.shape == (5, 114, 146, 3)
    assert not np.array_equal(videos["freeswim"].frames, videos["naive"].frames)
    settings = read_settings(report["paths"]["naive"])
    assert settings is not None
    assert settings["run"]["video"] == "naive"
    assert Request.from_dict(settings).to_dict() == report["settings"]

    # The settings in a file repeat its run, bit for bit; options given beside them win.
    again = tmp_path / "again.mp4"
    assert main(["--from", str(output), "--output", str(again), "--no-compare", "--quiet"]) == 0
    assert last_json(capsys.readouterr().out)["settings"] == report["settings"] | {"compare": False}
    assert np.array_equal(read_video(again).frames, videos["freeswim"].frames)
    assert not again.with_name("again.naive.mp4").exists()

    assert main(["--read", str(again)]) == 0
    assert last_json(capsys.readouterr().out)["prompt"] == "a red sun"


def test_native_size_makes_one_video(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.mp4"
    assert main(["a sun", "--model", model, "--size", "80x64", "--compare", "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert last_json(printed.out)["paths"] == {"base": str(output)}
    assert "one video, no comparison" in printed.err
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_video_of_ones_own(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = np.full((8, 60, 74, 3), 90, np.uint8)
    own = write_video(tmp_path / "own.mp4", Video(frames, 24.0))
    output = tmp_path / "out.mp4"
    options = ["a sun", "--model", model, "--refine", str(own), "--output", str(output), "--quiet"]
    assert main([*options, "--size", "144x112", "--compare"]) == 0
    printed = capsys.readouterr()
    paths = last_json(printed.out)["paths"]
    assert list(paths) == ["base", "freeswim", "naive"]
    assert "5 frames are used" in printed.err
    for path in paths.values():
        assert read_video(path).frames.shape == (5, 112, 144, 3)
        assert read_video(path).fps == 24
    settings = read_settings(output)
    assert settings is not None
    assert (settings["num_frames"], settings["run"]["own_video"]) == (5, True)

    assert main(options) == 0  # without a size: a larger one in the video's own shape
    assert list(last_json(capsys.readouterr().out)["paths"]) == ["freeswim"]
    assert read_video(output).frames.shape == (5, 90, 112, 3)


# Options -> words in the one line. Where a prompt or a size is missing, that is the point.
REFUSED_OPTIONS = [
    ([], ["no prompt"]),
    ([""], ["prompt=''"]),
    (["a", "--size", "0x0"], ["width=0"]),
    (["a", "--size", "-512x288"], ["--size"]),
    (["a", "--size=-512x288"], ["width=-512"]),
    (["a", "--size", "99999x99999"], ["width=99999", "8192"]),
    (["a", "--size", "513x288"], ["width=513", "odd"]),
    (["a", "--size", "big"], ["size='big'", "512x288"]),
    (["a", "--strength", "1.5"], ["strength=1.5"]),
    (["a", "--strength", "-1"], ["strength=-1"]),
    (["a", "--steps", "0"], ["steps=0"]),
    (["a", "--steps", "2", "--strength", "0.1"], ["strength=0.1", "no step"]),
    (["a", "--steps", "many"], ["--steps", "many"]),
    (["a", "--frames", "16"], ["num_frames=16", "17"]),
    (["a", "--seed", "-1"], ["seed=-1"]),
    (["a", "--guidance", "0"], ["guidance_scale=0"]),
    (["a", "--window", "9"], ["--window='9'"]),
    (["a", "--guide-grid", "9x"], ["--guide-grid='9x'"]),
    (["a", "--query-tile", "30x30"], ["query_tile=(30, 30)"]),
    (["a", "--guide", "half"], ["--guide", "half"]),
    (["a", "--naive", "inward"], ["--naive"]),
    (["a", "--model", "gpt"], ["model='gpt'", "embedded"]),
    (["a", "--model", "/nowhere/model"], ["/nowhere/model"]),
    (["a", "--model", "{empty}"], ["model_index.json is missing"]),
    (["a", "--output", "/proc/nowhere/out.mp4"], ["/proc/nowhere/out.mp4"]),
    (["a", "--output", "out.gif"], ["out.gif", ".mp4"]),
    (["a", "--colour"], ["--colour"]),
    (["--read", "/nowhere.mp4"], ["/nowhere.mp4"]),
    (["--from", "{plain}"], ["no settings"]),
    (["a", "--refine", "{empty}/none.mp4"], ["none.mp4"]),
]


@pytest.mark.parametrize(("options", "words"), REFUSED_OPTIONS, ids=lambda v: " ".join(v)[:40])
def test_refused_in_one_line(
    options: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    plain = write_video(tmp_path / "plain.mp4", Video(np.zeros((1, 64, 64, 3), np.uint8), 16.0))
    options = [option.format(empty=tmp_path / "empty", plain=plain) for option in options]
    assert main(options) == REFUSED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("freeswim: ")
    assert printed.err.count("\n") == 1
    for word in words:
        assert word in printed.err


def test_refusing_is_quick_and_loads_no_torch() -> None:
    """As a user runs it. Torch alone takes seconds to import, so the process itself says whether it was."""
    code = (
        "import sys; from freeswim.cli import main; code = main(['a sun', '--steps', '0']); "
        "sys.exit(99 if 'torch' in sys.modules or 'diffusers' in sys.modules else code)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == REFUSED
    assert run.stderr == "freeswim: steps=0 must be a whole number from 1 to 1000\n"


def test_module_exit_code() -> None:
    command = [sys.executable, "-m", "freeswim", "a sun", "--size", "0x0"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == REFUSED
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1


def test_help_names_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    for word in ("embedded", "wan2.1-1.3b", "wan2.1-14b", "--compare", "--refresh-until"):
        assert word in text


def test_ctrl_c_keeps_what_was_done(model: str, tmp_path: Path) -> None:
    """A real signal to a real process, once the native video is on disk."""
    output = tmp_path / "out.mp4"
    options = ["a sun", "--model", model, "--size", "144x112", "--steps", "60", "--output", str(output)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.Popen(
        [sys.executable, "-m", "freeswim", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip
    base = tmp_path / "out.base.mp4"
    deadline = time.monotonic() + 120
    while not base.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == STOPPED, err
    assert last_json(out)["paths"] == {"base": str(base)}
    assert f"stopped; saved: {base}" in err
    assert len(read_video(base).frames) == 5
    assert not output.exists()


def test_out_of_memory_says_what_to_try(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("freeswim.pipeline.denoise", full)
    output = tmp_path / "out.mp4"
    assert main(["a sun", "--model", model, "--size", "144x112", "--output", str(output)]) == OUT_OF_MEMORY
    printed = capsys.readouterr()
    line = printed.err.strip().splitlines()[-1]
    assert "out of memory in stage 'freeswim'" in line
    assert "--offload model" in line
    assert str(tmp_path / "out.base.mp4") in line
    assert list(last_json(printed.out)["paths"]) == ["base"]


def test_settings_of_another_model_or_size_are_left_behind() -> None:
    stored = Request(prompt="a sun", width=512, height=288, seed=5, steps=9).resolved().to_dict()

    def asked(*options: str) -> Request:
        return request_of(build_parser().parse_args(options), stored)

    assert asked().to_dict() == stored
    portrait = asked("--size", "288x512")
    assert (portrait.steps, portrait.seed, portrait.window, portrait.query_tile) == (9, 5, None, None)
    other = asked("--model", "wan2.1-1.3b", "--strength", "0.5")
    assert (other.prompt, other.seed, other.strength) == ("a sun", 5, 0.5)
    assert (other.steps, other.width, other.guide, other.num_frames) == (None, None, None, None)


def test_unknown_words_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop_here(*args: Any) -> None:
        raise KeyboardInterrupt

    vocabulary = SimpleNamespace(unknown_words=lambda prompt: [word for word in prompt.split() if word == "zebra"])
    monkeypatch.setitem(sys.modules, "freeswim.embedded", vocabulary)
    monkeypatch.setattr("freeswim.cli._load", stop_here)
    for prompt, lines in (("a red sun", 0), ("a zebra", 1)):
        assert main([prompt, "--output", str(tmp_path / "out.mp4"), "--quiet"]) == STOPPED
        notices = [line for line in capsys.readouterr().err.splitlines() if "zebra" in line]
        assert len(notices) == lines


def test_what_would_fit_is_named_for_a_model_of_known_cost() -> None:
    request = Request(prompt="a sun", width=768, height=432).resolved()
    job: Any = SimpleNamespace(clip=None, request=request, plan=make_plan(request))
    assert re.search(r"\((768|512) × (432|288) with \d+ steps, \d+ frames would fit", cli._what_fits(job))
