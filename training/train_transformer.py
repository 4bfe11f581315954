"""Train the embedded transformer and its text encoder together, on latents of drawn clips held in memory.

    python -m training.train_transformer --seconds 370 --output freeswim/embedded

Needs the trained VAE in --output. Flow matching (Lipman et al., arXiv 2210.02747): x = (1 - s) x0 + s n, the model
predicts n - x0; s is drawn with the flow shift that the scheduler uses.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from freeswim.codec import latent_statistics
from training import whole_clip
from training.build import MAX_TOKENS, NATIVE_SHIFT, build_text_encoder, build_tokenizer, build_transformer, save
from training.clips import render_bank, sample_clips, to_model
from training.optim import Average, Trainer
from training.render import Renderer
from training.scenes import SUBJECT_COLOURS

SHARES = {"wide": 0.84, "square": 0.08, "tall": 0.08}
CAPTIONS = 3  # of each clip, the first of them complete
CAPTION_DROPOUT = 0.1
TRAIN_TIMESTEPS = 1000  # the scheduler's num_train_timesteps: what a noise level of 1 is called
CHUNK = 256


class Bank:
    """Latents of one aspect, (N, 16, T, h, w) in bfloat16, normalised, and the token ids of their captions."""

    @torch.no_grad()
    def __init__(
        self,
        vae: AutoencoderKLWan,
        tokenizer: PreTrainedTokenizerFast,
        aspect: str,
        count: int,
        seed: int,
        kinds: Sequence[str] = tuple(SUBJECT_COLOURS),
    ) -> None:
        device = vae.device
        scenes, views, texts = sample_clips(np.random.default_rng(seed), count, aspect, CAPTIONS, kinds)
        flat = [text for several in texts for text in several]
        ids = tokenizer(flat, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt").input_ids
        self.ids = ids.view(count, CAPTIONS, MAX_TOKENS).to(device)
        mean, std = latent_statistics(vae, torch.empty(0, device=device))
        renderer, chunks = Renderer(device), []
        for i in range(0, count, CHUNK):
            clips = render_bank(renderer, scenes[i : i + CHUNK], views[i : i + CHUNK], aspect)
            for part in clips.split(32):
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    latents = whole_clip.encode(vae, to_model(part)).mode()
                chunks.append(((latents.float() - mean) / std).to(torch.bfloat16))
        self.latents = torch.cat(chunks)

    def draw(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random latents in float32 (B, 16, T, h, w), and the token ids (B, MAX_TOKENS) of a caption of each."""
        device = self.latents.device
        picks = torch.randint(len(self.latents), (batch,), device=device)
        which = torch.randint(CAPTIONS, (batch,), device=device)
        return self.latents[picks].float(), self.ids[picks, which]


def embed_text(text_encoder: UMT5EncoderModel, ids: torch.Tensor) -> torch.Tensor:
    """Token ids (B, L) to embeddings (B, L, D), zero behind the end of each text, as `WanPipeline` makes them."""
    mask = ids != text_encoder.config.pad_token_id
    embedded: torch.Tensor = text_encoder(ids, mask).last_hidden_state
    return embedded * mask[..., None]


def empty_prompt(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Token ids (1, MAX_TOKENS) of no text: what classifier-free guidance starts from."""
    ids: torch.Tensor = tokenizer("", padding="max_length", max_length=MAX_TOKENS, return_tensors="pt").input_ids
    return ids


def flow_loss(
    transformer: WanTransformer3DModel,
    text_encoder: UMT5EncoderModel,
    latents: torch.Tensor,
    ids: torch.Tensor,
    empty: torch.Tensor,
) -> torch.Tensor:
    """Mean squared error of the predicted flow at random noise levels; `empty` replaces a tenth of the captions."""
    dropped = torch.rand(len(ids), 1, device=ids.device) < CAPTION_DROPOUT
    context = embed_text(text_encoder, torch.where(dropped, empty, ids))
    # stratified: one noise level from each of B equal parts of 0..1
    u = (torch.arange(len(ids), device=ids.device) + torch.rand(len(ids), device=ids.device)) / len(ids)
    sigma = NATIVE_SHIFT * u / (1 + (NATIVE_SHIFT - 1) * u)
    noise = torch.randn_like(latents)
    s = sigma.view(-1, 1, 1, 1, 1)
    prediction = transformer((1 - s) * latents + s * noise, sigma * TRAIN_TIMESTEPS, context, return_dict=False)[0]
    return F.mse_loss(prediction.float(), noise - latents)


def new_trainer(transformer: WanTransformer3DModel, text_encoder: UMT5EncoderModel, lr: float) -> Trainer:
    ends = ("patch_embedding", "condition_embedder", "proj_out", "scale_shift_table")
    return Trainer([transformer, text_encoder], lr=lr, edge=(*ends, "shared", "relative_attention_bias"))


def train(
    transformer: WanTransformer3DModel,
    text_encoder: UMT5EncoderModel,
    banks: dict[str, Bank],
    empty: torch.Tensor,
    *,
    seconds: float,
    batch: int = 128,
    lr: float = 3e-3,
    seed: int = 1,
) -> None:
    """Train both in place for `seconds`; they end with the averaged weights. `empty`: see `empty_prompt`."""
    device = next(iter(banks.values())).latents.device
    cuda = device.type == "cuda"
    transformer.to(device).train()
    text_encoder.to(device).train()
    trainer = new_trainer(transformer, text_encoder, lr)
    average = Average(trainer.params)
    if cuda:
        transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
    empty = empty.to(device)
    rng = np.random.default_rng(seed)
    start, step, told = time.perf_counter(), 0, 0.0
    losses: list[torch.Tensor] = []
    while (elapsed := time.perf_counter() - start) < seconds:
        latents, ids = banks[str(rng.choice(list(SHARES), p=list(SHARES.values())))].draw(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            loss = flow_loss(transformer, text_encoder, latents, ids, empty)
        trainer.step(loss, elapsed / seconds)
        average.update()
        step += 1
        losses.append(loss.detach())
        if elapsed - told > seconds / 25 or step in (1, 10):
            told = elapsed
            print(f"{elapsed:6.1f} s  step {step:5d}  loss {float(torch.stack(losses).mean()):.4f}", flush=True)
            losses = []
    average.copy_to_params()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("freeswim/embedded"), help="the pipeline's folder")
    parser.add_argument("--resume", action="store_true", help="start from the weights in --output")
    parser.add_argument("--seconds", type=float, default=370)
    parser.add_argument("--clips", type=int, default=24000)
    parser.add_argument("--kinds", nargs="+", choices=SUBJECT_COLOURS, default=list(SUBJECT_COLOURS), metavar="KIND",
                        help="of subject, in turn; one named twice comes twice as often")  # fmt: skip
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    started = time.perf_counter()
    vae = AutoencoderKLWan.from_pretrained(args.output / "vae", dtype=torch.float32).to(device).eval()
    tokenizer = build_tokenizer()
    banks = {
        aspect: Bank(vae, tokenizer, aspect, int(args.clips * share), args.seed + i, args.kinds)
        for i, (aspect, share) in enumerate(SHARES.items())
    }
    print(f"{args.clips} clips drawn and encoded in {time.perf_counter() - started:.1f} s", flush=True)
    if args.resume:
        transformer = WanTransformer3DModel.from_pretrained(args.output / "transformer", dtype=torch.float32)
        text_encoder = UMT5EncoderModel.from_pretrained(args.output / "text_encoder", dtype=torch.float32)
    else:
        transformer, text_encoder = build_transformer(), build_text_encoder(tokenizer)
    empty = empty_prompt(tokenizer)
    train(transformer, text_encoder, banks, empty, seconds=args.seconds, batch=args.batch, lr=args.lr, seed=args.seed)
    save(args.output, vae, transformer, text_encoder, tokenizer)
    print(json.dumps({"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
