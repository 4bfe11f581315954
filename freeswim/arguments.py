"""The command line's options, and the request they describe. No torch."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, NoReturn, get_args

from freeswim.config import Guide, Override, WindowMode
from freeswim.models import MODELS
from freeswim.offload import Offload
from freeswim.request import CONFIG_FIELDS, NaiveMode, Request, parse_size, parse_tokens

# What a file's settings say about these holds for its own model, or for its own model and size, only.
_OF_THE_SIZE = ("window", "query_tile", "logit_scale", "guide_grid")
_OF_THE_MODEL = (
    "negative_prompt", "num_frames", "steps", "guidance_scale", "strength", "flow_shift", *CONFIG_FIELDS,
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option as ValueError, so that every refusal looks the same: one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see python -m freeswim --help)")


def build_parser() -> argparse.ArgumentParser:
    """The options. Those that are a Request field have its name as `dest`, and None when not given."""
    parser = _Parser(
        prog="python -m freeswim",
        description="Ultra-high-resolution video from a prompt, without training (FreeSwim, arXiv 2511.14712).",
        epilog="Models: "
        + "; ".join(f"{model.name}: {model.description} ({model.memory})" for model in MODELS.values()),
        allow_abbrev=False,
    )
    flag = argparse.BooleanOptionalAction

    what = parser.add_argument_group("what to make")
    what.add_argument("prompt", nargs="?", help="what the video should show")
    what.add_argument("--negative-prompt", metavar="TEXT", help="what it should not show (default: the model's)")
    what.add_argument("--model", metavar="NAME", help=f"{', '.join(MODELS)}, or a folder (default: embedded)")
    what.add_argument("--size", metavar="WxH", help="pixels, such as 512x288 (default: the model's first preset)")
    what.add_argument("--frames", dest="num_frames", type=int, metavar="N", help="4k + 1 (default: the model's)")
    what.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same video (default: 0)")
    what.add_argument("--compare", action=flag, help="make the naive sliding-window video as well")
    what.add_argument("--naive", dest="naive_mode", choices=get_args(NaiveMode), help="its windows (default: clipped)")
    what.add_argument("--refine", "--video", metavar="FILE",
                      help="remake this video at --size after the prompt, instead of generating one first")  # fmt: skip

    how = parser.add_argument_group("how to denoise (defaults: the model's)")
    how.add_argument("--steps", type=int, metavar="N", help="denoising steps of each stage at strength 1")
    how.add_argument("--guidance", dest="guidance_scale", type=float, metavar="X", help="1 is off")
    how.add_argument("--strength", type=float, metavar="X", help="share of the steps that the second stage runs, 0..1")
    how.add_argument("--shift", dest="flow_shift", type=float, metavar="X", help="flow shift of the second stage")

    method = parser.add_argument_group("FreeSwim itself")
    method.add_argument("--window", metavar="HxW", help="tokens a query sees (default: the trained grid)")
    method.add_argument("--query-tile", metavar="HxW", help="tokens that share a window (default: a third of it)")
    method.add_argument("--shift-tiles", action=flag, help="shift the tiles by half a tile in every second block")
    method.add_argument("--window-mode", choices=get_args(WindowMode), help="where windows lie (default: inward)")
    method.add_argument("--guide", choices=get_args(Guide), help="the pass that keeps one picture")
    method.add_argument("--guide-grid", metavar="HxW", help="tokens of the downsampled guide (default: as the window)")
    method.add_argument("--override", choices=get_args(Override), help="what the guide hands over")
    method.add_argument("--context-until", type=float, metavar="X",
                        help="first part of the steps in which windows see the guide's keys, 0..1")  # fmt: skip
    method.add_argument("--anchor-above", type=float, metavar="X",
                        help="noise level, 0..1, down to which coarse structure is the guide's; 1 is off")  # fmt: skip
    method.add_argument("--refresh-interval", type=int, metavar="N", help="steps from one guide pass to the next")
    method.add_argument("--refresh-until", type=float, metavar="X", help="first part of the steps that has them, 0..1")
    method.add_argument("--guide-unconditional", action=flag, help="guide the pass without the prompt too")
    method.add_argument("--logit-scale", type=float, metavar="X", help="factor on attention logits; 1 is off")

    machine = parser.add_argument_group("where it runs")
    machine.add_argument("--device", metavar="NAME", help="cuda, cuda:1, cpu (default: cuda if there is one)")
    machine.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: by device")
    machine.add_argument("--offload", choices=get_args(Offload), default="auto",
                         help="models wait in main memory for their turn (default: on a small GPU)")  # fmt: skip

    files = parser.add_argument_group("files")
    files.add_argument("--output", default="out.mp4", metavar="FILE",
                       help="out.mp4 makes out.mp4, out.base.mp4 and, with --compare, out.naive.mp4")  # fmt: skip
    files.add_argument("--from", dest="settings_from", metavar="FILE", help="start from the settings in this mp4")
    files.add_argument("--read", metavar="FILE", help="print the settings in this mp4, and do nothing else")
    files.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def request_of(arguments: argparse.Namespace, stored: Mapping[str, Any] | None = None) -> Request:
    """The request that parsed arguments describe, over the `stored` settings of a file; ValueError names an option."""
    fields = {field.name for field in dataclasses.fields(Request)}
    asked = {name: value for name, value in vars(arguments).items() if name in fields and value is not None}
    if arguments.size is not None:
        asked["width"], asked["height"] = parse_size(arguments.size)
    for name in ("window", "query_tile", "guide_grid"):
        if name in asked:
            asked[name] = parse_tokens(f"--{name.replace('_', '-')}", asked[name])
    values = _still_valid(stored, asked) if stored else {}
    if "prompt" not in values | asked:
        raise ValueError('no prompt: say what the video should show, as in python -m freeswim "a red sun over the sea"')
    return Request.from_dict(values | asked)


def _still_valid(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The stored settings without those that were the defaults of a model or a size that isn't asked for now."""
    gone: set[str] = set()
    if any(asked.get(name, stored.get(name)) != stored.get(name) for name in ("width", "height")):
        gone |= set(_OF_THE_SIZE)
    if asked.get("model", stored.get("model")) != stored.get("model"):
        gone |= {*_OF_THE_MODEL, *_OF_THE_SIZE, "width", "height"}
    return {name: value for name, value in stored.items() if name not in gone}
