"""The embedded model's parts, untrained, in diffusers' own classes: what their sizes are stands here alone."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from training.scenes import vocabulary

MAX_TOKENS = 32  # tokens of a caption with its end mark; the longest has 21
NATIVE_SHIFT = 3.0


def build_vae() -> AutoencoderKLWan:
    """8x in space, 4x in time, 16 channels. A patch of 2 halves the picture before the first convolution: four times
    less work than full-resolution layers of the same depth, which is what makes decoding on a laptop bearable."""
    return AutoencoderKLWan(
        base_dim=32, z_dim=16, dim_mult=[1, 2, 4], num_res_blocks=2, temperal_downsample=[True, True], patch_size=2,
        in_channels=12, out_channels=12, latents_mean=[0.0] * 16, latents_std=[1.0] * 16,
        scale_factor_temporal=4, scale_factor_spatial=8,
    )  # fmt: skip


def build_transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel(
        num_attention_heads=5, attention_head_dim=64, in_channels=16, out_channels=16, text_dim=128, freq_dim=256,
        ffn_dim=1280, num_layers=8, cross_attn_norm=True, rope_max_seq_len=1024,
    )  # fmt: skip


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; case and punctuation do not count; every text ends in an end mark."""
    words = ["<pad>", "</s>", "<unk>", *vocabulary()]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace("gray", "grey")])
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("removed")]
    )
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=MAX_TOKENS
    )


def build_text_encoder(tokenizer: PreTrainedTokenizerFast) -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer), d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0.0,
            relative_attention_max_distance=32, feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip


def build_scheduler() -> UniPCMultistepScheduler:
    """The scheduler that Wan2.1 ships."""
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=NATIVE_SHIFT
    )


def save(
    folder: Path,
    vae: AutoencoderKLWan,
    transformer: WanTransformer3DModel,
    text_encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Write a `WanPipeline` in half precision. The parts are converted in place."""
    pipe = WanPipeline(
        tokenizer=tokenizer, text_encoder=text_encoder.to(torch.float16), vae=vae.to(torch.float16),
        scheduler=build_scheduler(), transformer=transformer.to(torch.float16),
    )  # fmt: skip
    pipe.save_pretrained(folder, safe_serialization=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    words = build_tokenizer()
    target = Path(__file__).resolve().parent.parent / "freeswim" / "embedded"
    save(target, build_vae(), build_transformer(), build_text_encoder(words), words)
