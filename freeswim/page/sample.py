"""The comparison that the page opens with: three videos that ship with it, made by the embedded model.

    python -m freeswim.page.sample

makes them again, as the page would, and writes beside their settings what was measured in them.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from freeswim.embedded import EXAMPLES
from freeswim.page.player import ComparisonValue
from freeswim.request import Request, parse_size
from freeswim.video import Video, read_settings, write_video

FOLDER = Path(__file__).with_name("sample")
NAMES = ("freeswim", "naive", "base")
_LOOK = "look_for"  # the key of the measured line among what a file says of its run


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The videos by name, the settings that they hold, and the line that says what to look for."""

    videos: Mapping[str, Path]
    settings: Mapping[str, Any]
    look: str

    @property
    def comparison(self) -> ComparisonValue:
        """As the player shows them."""
        return ComparisonValue(
            right=self.videos["freeswim"],
            left=self.videos["naive"],
            base=self.videos["base"],
            fps=self.settings["run"]["fps"],
            width=self.settings["width"],
            height=self.settings["height"],
        )

    @property
    def look_html(self) -> str:
        """What to look for, and that this isn't the visitor's own run."""
        prompt, width, height, seed = (self.settings[name] for name in ("prompt", "width", "height", "seed"))
        made = f"An example, made earlier: “{prompt}”, {width} × {height}, seed {seed}."
        return f'<p><b>Look for</b> {escape(self.look)}</p><p class="example">{escape(made)}</p>'


def load(folder: Path = FOLDER) -> Sample | None:
    """The sample that ships with the package; None where its files are missing."""
    videos = {name: folder / f"{name}.mp4" for name in NAMES}
    if not all(path.is_file() for path in videos.values()):
        return None
    settings = read_settings(videos["freeswim"])
    if settings is None or _LOOK not in settings.get("run", {}):
        return None
    return Sample(videos=videos, settings=settings, look=settings["run"][_LOOK])


def make(request: Request, folder: Path = FOLDER) -> Sample:
    """Runs `request` with its naive comparison on this device and writes the sample. Minutes on a CPU."""
    from freeswim.page.look import what_to_look_for
    from freeswim.pipeline import FreeSwimPipeline

    result = FreeSwimPipeline.from_pretrained(request.model)(request)
    look = what_to_look_for(result.videos, model=request.model, prompt=request.prompt)
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        settings = {**result.settings, "run": {**result.settings["run"], "video": name, _LOOK: look}}
        write_video(folder / f"{name}.mp4", Video(result.videos[name], result.fps), settings)
    sample = load(folder)
    assert sample is not None
    return sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default=EXAMPLES[4])
    parser.add_argument("--size", type=parse_size, default=(768, 432))
    parser.add_argument("--seed", type=int, default=1, help="default: the form's own")
    parser.add_argument("--output", type=Path, default=FOLDER)
    args = parser.parse_args()
    width, height = args.size
    request = Request(prompt=args.prompt, width=width, height=height, seed=args.seed, compare=True)
    print(make(request, args.output).look)


if __name__ == "__main__":
    main()
