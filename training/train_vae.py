"""Train the embedded VAE for a given number of seconds, from scratch or on from what stands in the folder.

python -m training.train_vae --seconds 400 --output freeswim/embedded
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResidualBlock
from PIL import Image

from training import whole_clip
from training.build import build_vae
from training.clips import render_bank, sample_clips, to_model
from training.optim import Average, Trainer
from training.render import Renderer
from training.scenes import ASPECTS, View, sample_scene, sample_view

KL_WEIGHT = 1e-4
EDGE_WEIGHT = 1.0


def loss_terms(vae: AutoencoderKLWan, clips: torch.Tensor) -> dict[str, torch.Tensor]:
    """Losses of reconstructing (B, 3, T, H, W) in -1..1: pixels, their differences to neighbours, and the prior.

    The differences keep fine texture: an error that blurs costs little in pixels and much in their differences.
    """
    posterior = whole_clip.encode(vae, clips)
    output = whole_clip.decode(vae, posterior.sample()).float()
    error = output - clips
    edges = sum(error.diff(dim=d).abs().mean() for d in (3, 4)) + 0.5 * error.diff(dim=2).abs().mean()
    kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    pixels = error.abs().mean() + 2 * (error**2).mean()
    return {"pixels": pixels, "edges": EDGE_WEIGHT * edges, "kl": KL_WEIGHT * kl, "mse": (error.detach() ** 2).mean()}


def fuse_norms(vae: AutoencoderKLWan) -> None:
    """Compile norm + SiLU of the residual blocks into one kernel; most of a step's memory traffic is there."""

    @torch.compile(dynamic=False)
    def norm_silu(x: torch.Tensor, gamma: torch.Tensor, scale: float) -> torch.Tensor:
        return F.silu(F.normalize(x.float(), dim=1) * scale * gamma).to(x.dtype)

    for block in vae.modules():
        if isinstance(block, WanResidualBlock):
            for norm in (block.norm1, block.norm2):
                norm.forward = lambda x, norm=norm: norm_silu(x, norm.gamma, norm.scale)
            block.nonlinearity = torch.nn.Identity()


def new_trainer(vae: AutoencoderKLWan, lr: float) -> Trainer:
    return Trainer([vae], lr=lr, edge=("conv_in", "conv_out", "quant_conv", "to_qkv"))


def random_crops(bank: torch.Tensor, batch: int, crop: int) -> torch.Tensor:
    """`batch` clips out of uint8 `bank` (N, T, H, W, 3), all cut at one random place, as (B, 3, T, crop, crop)."""
    picks = torch.randint(len(bank), (batch,), device=bank.device)
    y, x = (int(torch.randint(bank.shape[d] - crop + 1, ())) for d in (2, 3))
    clips = to_model(bank[picks, :, y : y + crop, x : x + crop])
    return clips.flip(4) if torch.rand(()) < 0.5 else clips


def train(
    vae: AutoencoderKLWan,
    bank: torch.Tensor,
    *,
    seconds: float,
    batch: int = 16,
    crop: int = 128,
    lr: float = 2e-3,
    channels_last: bool = False,
) -> None:
    """Train `vae` in place on `bank`, uint8 (N, T, H, W, 3), for `seconds`; it ends with the averaged weights."""
    device = bank.device
    cuda = device.type == "cuda"
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    vae.to(device).train()
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=layout)
    if cuda:
        fuse_norms(vae)
    trainer = new_trainer(vae, lr)
    average = Average(trainer.params, decay=0.998)
    start, step, told = time.perf_counter(), 0, 0.0
    while (elapsed := time.perf_counter() - start) < seconds:
        clips = random_crops(bank, batch, crop)
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            terms = loss_terms(vae, clips.contiguous(memory_format=layout))
        trainer.step(terms["pixels"] + terms["edges"] + terms["kl"], elapsed / seconds)
        average.update()
        step += 1
        if elapsed - told > seconds / 25 or step in (1, 10):
            told = elapsed
            values = {k: round(v.item(), 5) for k, v in terms.items()}
            psnr = -10 * np.log10(values["mse"] / 4 + 1e-12)
            print(f"{elapsed:6.1f} s  step {step:5d}  {psnr:5.2f} dB  {values}", flush=True)
    average.copy_to_params()


@torch.no_grad()
def measure(vae: AutoencoderKLWan, renderer: Renderer, count: int, sheet: Path | None) -> dict[str, float]:
    """PSNR in dB (on 0..255 pictures, mean over clips) of whole unseen scenes at 1x, 2x and 3x, by the stock calls."""
    rng = np.random.default_rng(987654)
    scenes = [sample_scene(rng) for _ in range(count)]
    result: dict[str, float] = {}
    rows = []
    for scale in (1, 2, 3):
        values: list[float] = []
        samples = []
        for scene in scenes:
            clip = render_bank(renderer, [scene], [View(zoom=scale)], "wide", scale=scale)
            output = vae.decode(vae.encode(to_model(clip)).latent_dist.mode()).sample
            pair = (output.float().permute(0, 2, 3, 4, 1) * 127.5 + 127.5).round().clamp(0, 255), clip.float()
            values.append(float(-10 * torch.log10(((pair[0] - pair[1]) ** 2).mean() / 255**2)))
            if len(values) <= 4:
                # the middle of the middle frame, true above decoded
                h, w = clip.shape[2:4]
                y, x = (h - 144) // 2 + (h - 144) // 4, (w - 256) // 2
                samples.append(torch.cat([p[0, 8, y : y + 144, x : x + 256] for p in (pair[1], pair[0])], 0))
        rows.append(torch.cat(samples, 1))
        result[f"{scale}x"] = round(float(np.mean(values)), 2)
    if sheet is not None:
        picture = torch.cat(rows, 0)
        sheet.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.to(torch.uint8).cpu().numpy()).save(sheet)
    return result


@torch.no_grad()
def set_statistics(vae: AutoencoderKLWan, bank: torch.Tensor, count: int = 128) -> None:
    """Mean and deviation of each latent channel into the config, where `WanPipeline` looks for them."""
    latents = torch.cat([vae.encode(to_model(c[None])).latent_dist.mode() for c in bank[:count]]).double()
    vae.register_to_config(
        latents_mean=[round(v, 5) for v in latents.mean((0, 2, 3, 4)).tolist()],
        latents_std=[round(v, 5) for v in latents.std((0, 2, 3, 4)).tolist()],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("freeswim/embedded"), help="the pipeline's folder")
    parser.add_argument("--resume", action="store_true", help="start from the weights in --output")
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--channels-last", action="store_true", help="memory layout; the GPU decides which is faster")
    parser.add_argument("--measure", type=int, default=16, help="unseen clips to measure on")
    parser.add_argument("--sheet", type=Path, help="picture of true and decoded frames")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    started = time.perf_counter()
    rng = np.random.default_rng(args.seed)
    scenes, views, _ = sample_clips(rng, args.clips, "wide")
    # a third each of whole scenes, of crops up to 2x and of crops up to 3x
    views = [View() if i % 3 == 0 else sample_view(s, rng, 1.5 + 0.75 * (i % 3)) for i, s in enumerate(scenes)]
    renderer = Renderer(device)
    bank = render_bank(renderer, scenes, views, "wide")
    print(f"{args.clips} clips of {ASPECTS['wide']} drawn in {time.perf_counter() - started:.1f} s", flush=True)

    vae = AutoencoderKLWan.from_pretrained(args.output / "vae") if args.resume else build_vae()
    train(
        vae, bank, seconds=args.seconds, batch=args.batch, crop=args.crop, lr=args.lr, channels_last=args.channels_last
    )
    vae.save_pretrained(args.output / "vae")  # before anything else can fail
    vae = AutoencoderKLWan.from_pretrained(args.output / "vae").to(device).eval()
    set_statistics(vae, bank)
    vae.to(torch.float16).save_pretrained(args.output / "vae")
    result = measure(vae.float(), renderer, args.measure, args.sheet)
    print(json.dumps({"psnr": result, "seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
