"""The Wan VAE over a whole clip at once, for training.

`AutoencoderKLWan` encodes and decodes four frames at a time and carries the ends of its causal convolutions along,
which bounds memory but runs five small passes where one large one would do. The functions here call the very same
modules on all frames together and give the same numbers (`tests/test_training.py`); only training needs them.
"""

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    DiagonalGaussianDistribution,
    WanResample,
    WanUpBlock,
    patchify,
    unpatchify,
)


def _resample(layer: WanResample, x: torch.Tensor) -> torch.Tensor:
    """Resample (B, C, T, H, W). Time: the first frame stands alone, the others go in pairs."""
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        first, rest = x[:, :, :1], layer.time_conv(x[:, :, 1:])
        b, c2, t, h, w = rest.shape
        rest = rest.reshape(b, 2, c2 // 2, t, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c2 // 2, 2 * t, h, w)
        x = torch.cat((first, rest), dim=2)
    b, c, t, h, w = x.shape
    frames = layer.resample(x.permute(0, 2, 1, 3, 4).reshape(b * t, c, h, w))
    x = frames.view(b, t, *frames.shape[1:]).permute(0, 2, 1, 3, 4)
    if layer.mode == "downsample3d" and t > 1:
        x = torch.cat((x[:, :, :1], layer.time_conv(x)), dim=2)
    return x


def encode(vae: AutoencoderKLWan, video: torch.Tensor) -> DiagonalGaussianDistribution:
    """Encode (B, 3, T, H, W) in -1..1, T = 4k + 1, to the posterior of (B, z, k + 1, H / 8, W / 8)."""
    encoder = vae.encoder
    x = encoder.conv_in(patchify(video, vae.config.patch_size or 1))
    for layer in encoder.down_blocks:
        x = _resample(layer, x) if isinstance(layer, WanResample) else layer(x)
    x = encoder.mid_block(x)
    x = encoder.conv_out(encoder.nonlinearity(encoder.norm_out(x)))
    return DiagonalGaussianDistribution(vae.quant_conv(x))


def decode(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """Decode (B, z, k + 1, h, w) to (B, 3, 4k + 1, 8h, 8w), not clamped."""
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        assert isinstance(block, WanUpBlock)
        for resnet in block.resnets:
            x = resnet(x)
        for upsampler in block.upsamplers or ():
            x = _resample(upsampler, x)
    x = decoder.conv_out(decoder.nonlinearity(decoder.norm_out(x)))
    return unpatchify(x, vae.config.patch_size or 1)
