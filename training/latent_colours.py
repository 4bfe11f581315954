"""Fits the preview's map from latents to colours to the embedded VAE, and says how good it is on clips it never saw.

python -m training.latent_colours --output freeswim/embedded/latent_colours.safetensors --sheet outputs/colours.png
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from PIL import Image

from freeswim.codec import encode
from freeswim.embedded import MODEL_DIR
from freeswim.page.preview import DETAIL, LatentColours, latent_averages
from training.clips import FRAMES, sample_clips, to_model
from training.render import Renderer, to_uint8
from training.scenes import ASPECTS

Pair = tuple[torch.Tensor, NDArray[np.uint8]]


@torch.no_grad()
def pairs(vae: AutoencoderKLWan, renderer: Renderer, seed: int, count: int) -> list[Pair]:
    """`count` drawn clips: their latents (1, C, T, h, w) and frames (T, H, W, 3); a third at twice the size."""
    scenes, views, _ = sample_clips(np.random.default_rng(seed), 32 * 5, "wide")
    width, height = ASPECTS["wide"]
    made = []
    for i in range(count):
        chosen = i * len(scenes) // count
        scale = 2 if i % 3 == 2 else 1
        size = (height * scale, width * scale)
        view = replace(views[chosen], zoom=views[chosen].zoom * scale)
        clip = to_uint8(renderer([scenes[chosen]], [view], size, FRAMES))
        # The VAE's own error (36 dB or better) is far below that of a linear map, so nothing is decoded.
        made.append((encode(vae, to_model(clip)), clip[0].numpy()))
    return made


def psnr(shown: NDArray[np.uint8], frames: NDArray[np.uint8]) -> float:
    """Of previews (T, h, w, 3) against frames (F, H, W, 3) averaged to the same size, in dB."""
    small = torch.nn.functional.interpolate(latent_averages(frames, len(shown)), shown.shape[1:3], mode="area")
    error = small.permute(0, 2, 3, 1) - torch.from_numpy(shown).float() / 255
    return float(-10 * torch.log10(error.square().mean()))


def _sheet(colours: LatentColours, unseen: list[Pair]) -> Image.Image:
    """Two columns a clip, preview and averaged frames, at the preview's size three times enlarged."""
    rows = []
    for latents, frames in unseen:
        shown = colours.frames(latents)
        small = torch.nn.functional.interpolate(latent_averages(frames, len(shown)), shown.shape[1:3], mode="area")
        true = (small * 255).round().byte().permute(0, 2, 3, 1).numpy()
        pair = np.concatenate([shown[-1], true[-1]], axis=1)
        rows.append(np.asarray(Image.fromarray(pair).resize((768, 216), Image.Resampling.BICUBIC)))
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_DIR / "latent_colours.safetensors")
    parser.add_argument("--sheet", type=Path, help="picture of previews beside the averaged true frames")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--unseen", type=int, default=12)
    args = parser.parse_args()
    vae = AutoencoderKLWan.from_pretrained(MODEL_DIR / "vae").eval()
    renderer = Renderer()
    seen, unseen = (pairs(vae, renderer, seed, n) for seed, n in ((1, args.clips), (2, args.unseen)))
    results = {}
    for detail in (1, 2, 4):
        colours = LatentColours.fit_all(seen, detail=detail)
        alone = LatentColours.fit(*unseen[0], detail=detail)
        results[detail] = {
            "psnr": round(float(np.mean([psnr(colours.frames(z, limit=4096), f) for z, f in unseen])), 2),
            "worst": round(min(psnr(colours.frames(z, limit=4096), f) for z, f in unseen), 2),
            "fitted_to_one_other_clip": round(
                float(np.mean([psnr(alone.frames(z, limit=4096), f) for z, f in unseen[1:]])), 2
            ),
        }
    colours = LatentColours.fit_all(seen, detail=DETAIL)
    colours.save(args.output)
    if args.sheet:
        args.sheet.parent.mkdir(parents=True, exist_ok=True)
        _sheet(colours, unseen).save(args.sheet)
    print(json.dumps({"clips": args.clips, "unseen": args.unseen, "by_detail": results}))


if __name__ == "__main__":
    main()
