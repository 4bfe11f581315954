"""Tiny random Wan models for tests: one transformer, and a whole pipeline in the hub's folder layout.

Every parameter is random (norm weights, scale tables and biases too), so that no term of the model can drop out unseen.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

LATENT_CHANNELS = 4
TEXT_DIM = 16
WORDS = ("a", "red", "sun", "rising", "over", "blue", "mountains", "and", "calm", "sea", "moon", "boat")


def randomise(module: torch.nn.Module, *, seed: int, scale: float = 0.05) -> None:
    """Add Gaussian noise of `scale` to every parameter of `module`, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter))


def tiny_transformer(*, seed: int = 0, **overrides: Any) -> WanTransformer3DModel:
    """A random WanTransformer3DModel (float32, CPU, eval): 3 blocks, 2 heads x 24, patch (1, 2, 2), 4 latent channels.

    `overrides` are passed to the constructor. A head of 24 has 8 rotary dimensions for each of t, h and w.
    """
    config: dict[str, Any] = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "text_dim": TEXT_DIM,
        "freq_dim": 32,
        "ffn_dim": 64,
        "num_layers": 3,
        "rope_max_seq_len": 64,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = WanTransformer3DModel(**(config | overrides))
    randomise(transformer, seed=seed)
    return transformer.eval().requires_grad_(False)


def random_latents(
    grid: tuple[int, int, int], *, seed: int = 0, batch: int = 1, channels: int = LATENT_CHANNELS
) -> torch.Tensor:
    """Gaussian latents (batch, channels, T, 2 * H, 2 * W) whose token grid is `grid` = (T, H, W)."""
    frames, height, width = grid
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, frames, 2 * height, 2 * width, generator=generator)


def random_text(*, seed: int = 0, batch: int = 1, length: int = 6) -> torch.Tensor:
    """Gaussian text embeddings (batch, length, TEXT_DIM)."""
    return torch.randn(batch, length, TEXT_DIM, generator=torch.Generator().manual_seed(seed))


def tiny_vae(*, seed: int = 0) -> AutoencoderKLWan:
    """A random Wan VAE: 8x in space (2x of it by patches), 4x in time, LATENT_CHANNELS latent channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKLWan(
            base_dim=8,
            z_dim=LATENT_CHANNELS,
            dim_mult=[1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[True, True],
            latents_mean=[0.1 * (i - 1) for i in range(LATENT_CHANNELS)],
            latents_std=[1.0 + 0.1 * i for i in range(LATENT_CHANNELS)],
            in_channels=12,
            out_channels=12,
            patch_size=2,
            scale_factor_temporal=4,
            scale_factor_spatial=8,
        )
    return vae.eval().requires_grad_(False)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of WORDS that ends every text with </s>, as Wan's does."""
    vocabulary = {token: i for i, token in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def tiny_text_encoder(*, seed: int = 0) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=len(WORDS) + 3, d_model=TEXT_DIM, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = UMT5EncoderModel(config)
    return encoder.eval().requires_grad_(False)


def tiny_pipeline(*, seed: int = 0, **transformer_overrides: Any) -> WanPipeline:
    """A whole random WanPipeline. Sizes in pixels are multiples of 16; frames are 4k + 1."""
    return WanPipeline(
        tokenizer=tiny_tokenizer(),
        text_encoder=tiny_text_encoder(seed=seed),
        vae=tiny_vae(seed=seed),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
        transformer=tiny_transformer(seed=seed, **transformer_overrides),
    )


def save_tiny_checkpoint(folder: Path, *, seed: int = 0, **transformer_overrides: Any) -> Path:
    """Write `tiny_pipeline` to `folder` in the hub's layout (model_index.json, transformer/, vae/, ...); return it."""
    tiny_pipeline(seed=seed, **transformer_overrides).save_pretrained(folder)
    return folder
