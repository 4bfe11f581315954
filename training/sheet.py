"""Look at the model: a sheet of middle frames for prompts whose combinations it never saw.

    python -m training.sheet --output sheet.png --prompts 64
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline
from PIL import Image

from training.build import MAX_TOKENS
from training.scenes import ASPECTS, View, caption, unseen_scenes


def unseen_prompts(count: int, seed: int = 2024, aspect: str = "wide") -> list[str]:
    rng = np.random.default_rng(seed)
    return [caption(scene, View(), rng, complete=True) for scene in unseen_scenes(rng, count, aspect)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("freeswim/embedded"))
    parser.add_argument("--output", type=Path, default=Path("sheet.png"))
    parser.add_argument("--videos", type=Path, help="also write all frames, uint8 (N, T, H, W, 3), as .npy")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--aspect", choices=ASPECTS, default="wide")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = WanPipeline.from_pretrained(args.model, torch_dtype=torch.float32).to(device)
    prompts = unseen_prompts(args.prompts, aspect=args.aspect)
    width, height = ASPECTS[args.aspect]
    videos = []
    for i in range(0, len(prompts), 16):
        generators = [torch.Generator().manual_seed(i + k) for k in range(len(prompts[i : i + 16]))]
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            frames = pipe(
                prompts[i : i + 16], height=height, width=width, num_frames=17, num_inference_steps=args.steps,
                guidance_scale=args.guidance, generator=generators, max_sequence_length=MAX_TOKENS,
            ).frames  # fmt: skip
        videos.append((np.asarray(frames) * 255).round().astype(np.uint8))
    stack = np.concatenate(videos)
    middle = stack[:, stack.shape[1] // 2]
    rows = [np.concatenate(list(middle[i : i + args.columns]), 1) for i in range(0, len(middle), args.columns)]
    Image.fromarray(np.concatenate(rows, 0)).save(args.output)
    if args.videos:
        np.save(args.videos, stack)
    for i, prompt in enumerate(prompts):
        print(i, prompt)


if __name__ == "__main__":
    main()
