"""Train the embedded transformer and its text encoder together, on latents of drawn clips held in memory.

    python -m training.train_transformer --seconds 380 --output freeswim/embedded

Needs the trained VAE in --output. Flow matching (Lipman et al., arXiv 2210.02747): x = (1 - s) x0 + s n, the model
predicts n - x0; s is drawn with the flow shift that the scheduler uses.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan

from training import whole_clip
from training.build import MAX_TOKENS, NATIVE_SHIFT, build_text_encoder, build_tokenizer, build_transformer, save
from training.clips import render_bank, sample_clips, to_model
from training.optim import Average, Trainer
from training.render import Renderer

SHARES = {"wide": 0.84, "square": 0.08, "tall": 0.08}
CAPTIONS = 3  # random captions of each clip
CAPTION_DROPOUT = 0.1
TRAIN_TIMESTEPS = 1000  # the scheduler's num_train_timesteps: what a noise level of 1 is called
CHUNK = 256


class Bank:
    """Latents of one aspect, (N, 16, T, h, w) in bfloat16, normalised, and the token ids of their captions."""

    @torch.no_grad()
    def __init__(self, vae: AutoencoderKLWan, tokenizer, aspect: str, count: int, seed: int) -> None:
        device = vae.device
        scenes, views, texts = sample_clips(np.random.default_rng(seed), count, aspect, CAPTIONS)
        flat = [text for several in texts for text in several]
        ids = tokenizer(flat, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt").input_ids
        self.ids = ids.view(count, CAPTIONS, MAX_TOKENS).to(device)
        mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1, 1)
                     for v in (vae.config.latents_mean, vae.config.latents_std))  # fmt: skip
        renderer, chunks = Renderer(device), []
        for i in range(0, count, CHUNK):
            clips = render_bank(renderer, scenes[i : i + CHUNK], views[i : i + CHUNK], aspect)
            for part in clips.split(32):
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    latents = whole_clip.encode(vae, to_model(part)).mode()
                chunks.append(((latents.float() - mean) / std).to(torch.bfloat16))
        self.latents = torch.cat(chunks)

    def draw(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.latents.device
        picks = torch.randint(len(self.latents), (batch,), device=device)
        which = torch.randint(CAPTIONS, (batch,), device=device)
        return self.latents[picks].float(), self.ids[picks, which]


def embed_text(text_encoder, ids: torch.Tensor) -> torch.Tensor:
    """Token ids (B, L) to embeddings (B, L, D), zero behind the end of each text, as `WanPipeline` makes them."""
    mask = ids != text_encoder.config.pad_token_id
    return text_encoder(ids, mask).last_hidden_state * mask[..., None]


def flow_loss(transformer, text_encoder, latents: torch.Tensor, ids: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
    dropped = torch.rand(len(ids), 1, device=ids.device) < CAPTION_DROPOUT
    context = embed_text(text_encoder, torch.where(dropped, empty, ids))
    # stratified: one noise level from each of B equal parts of 0..1
    u = (torch.arange(len(ids), device=ids.device) + torch.rand(len(ids), device=ids.device)) / len(ids)
    sigma = NATIVE_SHIFT * u / (1 + (NATIVE_SHIFT - 1) * u)
    noise = torch.randn_like(latents)
    s = sigma.view(-1, 1, 1, 1, 1)
    prediction = transformer((1 - s) * latents + s * noise, sigma * TRAIN_TIMESTEPS, context, return_dict=False)[0]
    return F.mse_loss(prediction.float(), noise - latents)


def train(transformer, text_encoder, tokenizer, banks: dict[str, Bank], args: argparse.Namespace) -> None:
    device = next(iter(banks.values())).latents.device
    cuda = device.type == "cuda"
    transformer.to(device).train()
    text_encoder.to(device).train()
    edge = ("patch_embedding", "condition_embedder", "proj_out", "scale_shift_table", "shared", "relative_attention_bias")
    trainer = Trainer([transformer, text_encoder], lr=args.lr, edge=edge)
    average = Average(trainer.params)
    if cuda:
        transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
    empty = tokenizer("", padding="max_length", max_length=MAX_TOKENS, return_tensors="pt").input_ids.to(device)
    rng = np.random.default_rng(args.seed)
    start, step, told, losses = time.perf_counter(), 0, 0.0, []
    while (elapsed := time.perf_counter() - start) < args.seconds:
        latents, ids = banks[str(rng.choice(list(SHARES), p=list(SHARES.values())))].draw(args.batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            loss = flow_loss(transformer, text_encoder, latents, ids, empty)
        trainer.step(loss, elapsed / args.seconds)
        average.update()
        step += 1
        losses.append(loss.detach())
        if elapsed - told > args.seconds / 25 or step in (1, 10):
            told = elapsed
            print(f"{elapsed:6.1f} s  step {step:5d}  loss {float(torch.stack(losses).mean()):.4f}", flush=True)
            losses = []
    average.copy_to_params()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("freeswim/embedded"), help="the pipeline's folder")
    parser.add_argument("--resume", action="store_true", help="start from the weights in --output")
    parser.add_argument("--seconds", type=float, default=380)
    parser.add_argument("--clips", type=int, default=32000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    started = time.perf_counter()
    vae = AutoencoderKLWan.from_pretrained(args.output / "vae", torch_dtype=torch.float32).to(device).eval()
    tokenizer = build_tokenizer()
    banks = {
        aspect: Bank(vae, tokenizer, aspect, int(args.clips * share), args.seed + i)
        for i, (aspect, share) in enumerate(SHARES.items())
    }
    print(f"{args.clips} clips drawn and encoded in {time.perf_counter() - started:.1f} s", flush=True)
    if args.resume:
        from diffusers import WanTransformer3DModel
        from transformers import UMT5EncoderModel

        transformer = WanTransformer3DModel.from_pretrained(args.output / "transformer", torch_dtype=torch.float32)
        text_encoder = UMT5EncoderModel.from_pretrained(args.output / "text_encoder", torch_dtype=torch.float32)
    else:
        transformer, text_encoder = build_transformer(), build_text_encoder(tokenizer)
    train(transformer, text_encoder, tokenizer, banks, args)
    save(args.output, vae, transformer, text_encoder, tokenizer)
    print(json.dumps({"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
