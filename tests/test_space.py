"""README.md's front matter, which is the Space's configuration, agrees with what is installed and documented."""

import re
from pathlib import Path

import yaml  # type: ignore[import-untyped,unused-ignore]

ROOT = Path(__file__).resolve().parent.parent


def test_the_front_matter_is_a_valid_space() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\n")
    space = yaml.safe_load(text.split("---\n")[1])
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^gradio\[mcp\]==(\S+)", requirements, re.MULTILINE)
    assert pinned is not None
    assert (space["sdk"], space["sdk_version"]) == ("gradio", pinned[1])
    assert space["python_version"] == "3.12"
    assert (ROOT / space["app_file"]).is_file()
    assert len(space["short_description"]) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {space["colorFrom"], space["colorTo"]} <= colours
    assert space["license"] == "apache-2.0"
    assert set(space["preload_from_hub"]) <= set(space["models"])
    assert "spaces" not in re.findall(r"^[a-z]+", requirements, re.MULTILINE), "a Space brings its own"
