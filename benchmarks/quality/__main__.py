"""What each variant of the method does to the picture, on the embedded model.

    python -m benchmarks.quality                            # short: 4 prompts, 2x, six rows; a CPU will do
    python -m benchmarks.quality --full --output table.json # 32 prompts x 2 seeds, four sizes, all rows: a GPU

All variants of a size share the native videos, the noise and the seeds. The prompts describe combinations that were
held out from training. Prints a row as soon as it is measured, and one line of JSON last; `benchmarks.quality.report`
draws the tables and plots of docs/quality.md from that JSON. Rows and frames are written as they are made.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.quality.captions import LandscapeReader
from benchmarks.quality.generate import Clips, Run, aspect_of, decode, encode, enlarged, prepare, refine, true_videos
from benchmarks.quality.measures import Judge, Values
from benchmarks.quality.table import line, row
from benchmarks.quality.variants import Variant, file_stem, variants
from freeswim import FreeSwimPipeline
from freeswim.embedded.subjects import load
from freeswim.request import parse_size
from freeswim.sizes import Size

FULL_SIZES = ("512x288", "768x432", "640x360", "384x384")  # 2x, 3x, 2.5x, and 2x in a square
SHOWN = 6  # prompts of the contact sheets


def main() -> None:
    args = _arguments()
    if args.full:
        args.prompts, args.seeds, args.sizes, args.steps = 32, 2, list(FULL_SIZES), 20
    # Before the GPU is touched: forked processes must not inherit it.
    workers = max(1, (os.cpu_count() or 2) - 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(abs, range(workers)))
        pipeline = FreeSwimPipeline.from_pretrained("embedded")
        record = {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
            "torch": torch.__version__,
            **{name: getattr(args, name) for name in ("prompts", "seeds", "sizes", "steps")},
            "reader_error": {},
            "rows": [],
        }
        readers: dict[str, LandscapeReader] = {}
        for size in (Size(*parse_size(text)) for text in args.sizes):
            aspect = aspect_of(size)
            readers[aspect] = readers.get(aspect) or LandscapeReader(pipeline.pipe.device, aspect)
            record["reader_error"][aspect] = readers[aspect].error
            _size(args, size, pipeline, readers[aspect], pool, record)
    print(json.dumps(record))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the numbers of docs/quality.md")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sizes", nargs="+", default=["512x288"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64 if torch.cuda.is_available() else 1, help="clips at a time")
    parser.add_argument(
        "--only", action="append", help="only this variant, or those whose name contains this; repeatable"
    )
    parser.add_argument("--output", type=Path, help="JSON, written again after each row")
    parser.add_argument("--frames", type=Path, help="folder for middle frames of the first prompts, for contact sheets")
    return parser.parse_args()


def _size(
    args: argparse.Namespace,
    size: Size,
    pipeline: FreeSwimPipeline,
    reader: LandscapeReader,
    pool: ProcessPoolExecutor,
    record: dict[str, Any],
) -> None:
    """All rows of a size."""
    started = time.perf_counter()
    clips = prepare(pipeline, size, prompts=args.prompts, seeds=args.seeds, steps=args.steps, batch=args.batch)
    references = _references(pipeline, clips)
    judge = Judge(clips, references["true scene"], load(clips.clean.device), reader, pool)
    print(f"{size}: {len(clips.prompts)} clips ready after {time.perf_counter() - started:.1f} s", flush=True)

    waiting: list[tuple[dict[str, Any], Callable[[], Values]]] = []

    def done(head: dict[str, Any], run: Run, border: tuple[int, int]) -> None:
        cost = {"seconds_per_step": run.seconds_per_step, "peak_gib": run.peak_gib}
        waiting.append((head | {k: v and round(v, 3) for k, v in cost.items()}, judge(run.videos, border)))
        if args.frames:
            _save_frames(args.frames / f"{size}", head["variant"], run.videos[: min(SHOWN, args.prompts)])
        while len(waiting) > 1:  # regions are found while the next variant runs
            _finish(args, record, *waiting.pop(0))

    for name, videos in references.items():
        done({"size": str(size), "variant": name, "group": "reference"}, Run(videos), (1, 1))
    default = clips.plan.config
    for variant in _chosen(args, size):
        config = variant.config(default)
        strength = clips.plan.request.strength if variant.strength is None else variant.strength
        run = refine(pipeline, clips, config, strength=strength, steps=args.steps, batch=args.batch)
        # one frame of reference for rows that have no tiles: the tokens
        border = (1, 1) if config is None else config.query_tile
        if config is not None and config.window_mode == "blocks":
            border = config.window
        head = {"size": str(size), "variant": variant.name, "group": variant.group}
        done(head | {"config": config and config.to_dict(), "strength": strength}, run, border)
    while waiting:
        _finish(args, record, *waiting.pop(0))


def _references(pipeline: FreeSwimPipeline, clips: Clips) -> dict[str, torch.Tensor]:
    """Rows without a second stage: where the scale begins and ends."""
    truth = true_videos(clips, clips.clean.device)
    with torch.no_grad():
        through = decode(pipeline, torch.cat([encode(pipeline, v[None], clips.plan) for v in truth]), clips.size)
    return {"native, enlarged": enlarged(clips), "true scene": truth, "true scene through the VAE": through}


def _chosen(args: argparse.Namespace, size: Size) -> list[Variant]:
    rows = variants()
    if args.only:
        names = {v.name for v in rows}
        return [v for v in rows if any(v.name == p if p in names else p in v.name for p in args.only)]
    if not args.full:
        short = ("full attention", "clipped windows (naive)", "inward windows", "paper: every 2 steps", "default")
        return [v for v in rows if v.name in short]
    first, second = (str(size) == full for full in FULL_SIZES[:2])
    return [v for v in rows if first or v.core or (second and v.large)]


def _finish(args: argparse.Namespace, record: dict[str, Any], head: dict[str, Any], wait: Callable[[], Values]) -> None:
    done = head | row(wait(), args.prompts)
    record["rows"].append(done)
    print(line(f"{done['size']} {done['variant']}", done), flush=True)
    if args.output:
        args.output.write_text(json.dumps(record) + "\n")


def _save_frames(folder: Path, name: str, videos: torch.Tensor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(videos[:, videos.shape[1] // 2].cpu().numpy()):
        Image.fromarray(frame).save(folder / f"{file_stem(name)}.{i}.jpg", quality=92)


if __name__ == "__main__":
    main()
