"""Look at the model: a sheet of middle frames for prompts whose combinations it never saw, and the detector's verdict.

python -m training.sheet --output sheet.png --prompts 64
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline
from numpy.typing import NDArray
from PIL import Image

from freeswim.embedded.subjects import WEIGHTS, SubjectNet, load, shows_exactly
from training.build import MAX_TOKENS
from training.clips import FRAMES
from training.scenes import ASPECTS, Scene, View, caption, unseen_scenes

BATCH = 16


def complete_caption(scene: Scene) -> str:
    """All there is to say about the whole of `scene`."""
    return caption(scene, View(), np.random.default_rng(0), complete=True)


def generate(pipe: WanPipeline, prompts: list[str], *, aspect: str, steps: int, guidance: float) -> NDArray[np.uint8]:
    """uint8 (N, T, H, W, 3); prompt i starts from seed i."""
    (width, height), videos = ASPECTS[aspect], []
    device = pipe.device.type
    for i in range(0, len(prompts), BATCH):
        part = prompts[i : i + BATCH]
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            frames = pipe(
                part, height=height, width=width, num_frames=FRAMES, num_inference_steps=steps,
                guidance_scale=guidance, generator=[torch.Generator().manual_seed(i + k) for k in range(len(part))],
                max_sequence_length=MAX_TOKENS,
            ).frames  # fmt: skip
        videos.append((np.asarray(frames) * 255).round().astype(np.uint8))
    return np.concatenate(videos)


def verdict(net: SubjectNet, videos: NDArray[np.uint8], scenes: list[Scene]) -> dict[str, float | list[int]]:
    """Share of the videos with exactly one subject, share where it is the one asked for too, and which are not."""
    checks = [shows_exactly(net, v, s.subject, s.colour) for v, s in zip(videos, scenes, strict=True)]
    return {
        "one_subject": round(float(np.mean([one for one, _ in checks])), 4),
        "right": round(float(np.mean([right for _, right in checks])), 4),
        "misses": [i for i, (_, right) in enumerate(checks) if not right],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("freeswim/embedded"))
    parser.add_argument("--detector", type=Path, default=WEIGHTS)
    parser.add_argument("--output", type=Path, default=Path("sheet.png"))
    parser.add_argument("--videos", type=Path, help="also write all frames, uint8 (N, T, H, W, 3), as .npy")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--aspect", choices=ASPECTS, default="wide")
    parser.add_argument("--seed", type=int, default=2024, help="of the scenes; each video's noise has its own")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = WanPipeline.from_pretrained(args.model, dtype=torch.float32).to(device)
    scenes = unseen_scenes(np.random.default_rng(args.seed), args.prompts, args.aspect)
    prompts = [complete_caption(scene) for scene in scenes]
    videos = generate(pipe, prompts, aspect=args.aspect, steps=args.steps, guidance=args.guidance)

    middle = videos[:, FRAMES // 2]
    blank = np.zeros((-len(middle) % args.columns, *middle.shape[1:]), np.uint8)
    sheet = np.concatenate([middle, blank]).reshape(-1, args.columns, *middle.shape[1:])
    rows = [np.concatenate(list(row), axis=1) for row in sheet]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=0)).save(args.output)
    if args.videos:
        np.save(args.videos, videos)
    for i, prompt in enumerate(prompts):
        print(i, prompt)
    settings = {"prompts": len(prompts), "steps": args.steps, "guidance": args.guidance}
    print(json.dumps(settings | verdict(load(device, args.detector), videos, scenes)))


if __name__ == "__main__":
    main()
