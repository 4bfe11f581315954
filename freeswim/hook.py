"""apply_freeswim and remove_freeswim: FreeSwim as a diffusers hook on a stock WanTransformer3DModel.

One call of the hooked transformer is one denoising step of one branch (conditional or unconditional). The hook learns
branch and step from diffusers' cache context, runs the guide pass when it is due, and then the window pass:

    guide due?   transformer(latents, or latents brought down)   processors record
    always       transformer(latents)                            processors attend in windows and replay the record
    noisy yet?   anchored(velocity)                              its coarse structure becomes the guide's
"""

import inspect
import math
from typing import Any, Literal, get_args

import torch
from diffusers import WanTransformer3DModel
from diffusers.hooks.hooks import CacheContext, HookRegistry, ModelHook, StateManager
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.utils.torch_utils import unwrap_module

from freeswim.anchor import anchored, clean_estimate
from freeswim.block import BlockHook
from freeswim.config import FreeSwimConfig
from freeswim.downsample import average_down, downsample_latents
from freeswim.hoststore import HostStore
from freeswim.processors import FreeSwimCrossAttnProcessor, FreeSwimSelfAttnProcessor
from freeswim.rotary import rotary_embedding, scaled_positions
from freeswim.state import BlockRecord, BranchState, Conductor, ForwardPass, Grid, GuideRecord, Slot
from freeswim.support import check_stock_processors, check_supported, without_accelerate_hook
from freeswim.windows import guide_grid

_HOOK_NAME = "freeswim"
_BLOCK_HOOK_NAME = "freeswim_block"
_UNCONDITIONAL_PREFIXES = ("uncond", "neg")


RecordPlace = Literal["auto", "device", "host"]
"""Where the guide's record is kept: on the activations' device, in main memory, or there if the device is too small."""

# Of a window pass's activations, per token and channel, at the peak: stream, its norm, query, key, value, two outputs
# and the strips of keys and values, in the transformer's precision.
_LIVE_ACTIVATIONS = 10


def apply_freeswim(transformer: WanTransformer3DModel, config: FreeSwimConfig, *, record: RecordPlace = "auto") -> None:
    """Make `transformer` run FreeSwim, in place, until `remove_freeswim`.

    Every call must then run inside `transformer.cache_context(name, step_index=, sigma=, num_inference_steps=)`, as
    stock WanPipeline does it. Contexts whose name starts with "uncond" or "neg" are the unconditional branch. Step 0
    starts a branch afresh; without `step_index` calls are counted. What was recorded is freed by `remove_freeswim`, and
    by `transformer._reset_stateful_cache()`, which diffusers pipelines call when they are done. A grid that fits in the
    window is computed by the stock model.

    Attention backends, LoRA, fused projections, quantisation and offload work as before, set before or after. Group
    offload with `use_stream=True` needs `offload_type="block_level"`: prefetching leaf by leaf expects that each leaf
    runs, and cross-attention that is overridden does not run.

    record: where what the guide recorded is kept from step to step. That is 2.8 GiB a branch for a 1.3B model and 81
        frames, and with keys and values 8.4 GiB. "host" is pinned main memory, copied behind the computation; "auto"
        takes it when the CUDA device has too little left.

    Raises:
        ValueError: Not a WanTransformer3DModel with stock attention processors, or FreeSwim is applied already.
    """
    module = unwrap_module(transformer)
    if not isinstance(module, WanTransformer3DModel):
        raise ValueError(f"transformer must be a diffusers WanTransformer3DModel, not {type(module).__name__}.")
    if not isinstance(config, FreeSwimConfig):
        raise ValueError(f"config must be a FreeSwimConfig, not {type(config).__name__}.")
    if record not in get_args(RecordPlace):
        raise ValueError(f"{record=} is not one of {', '.join(map(repr, get_args(RecordPlace)))}.")
    registry = HookRegistry.check_if_exists_or_initialize(module)
    if registry.get_hook(_HOOK_NAME) is not None:
        raise ValueError("FreeSwim is already applied to this transformer: call remove_freeswim(transformer) first.")
    check_stock_processors(module)
    with without_accelerate_hook(module):
        registry.register_hook(FreeSwimHook(config, record), _HOOK_NAME)
    registry.invalidate_child_registries_cache()


def remove_freeswim(transformer: WanTransformer3DModel) -> None:
    """Put the stock transformer back, with the very processors it had. Does nothing where FreeSwim is not applied."""
    module = unwrap_module(transformer)
    registry = HookRegistry.check_if_exists_or_initialize(module)
    with without_accelerate_hook(module):
        registry.remove_hook(_HOOK_NAME, recurse=False)
    registry.invalidate_child_registries_cache()


class FreeSwimHook(ModelHook):  # type: ignore[misc]  # diffusers is untyped
    """Splits each forward into a guide pass, when it is due, and a window pass. Owns all state."""

    _is_stateful = True

    def __init__(self, config: FreeSwimConfig, record: RecordPlace = "auto") -> None:
        super().__init__()
        self.config = config
        self.record_place = record
        self.conductor = Conductor(config)
        self.state_manager = StateManager(BranchState)

    def initialize_hook(self, module: WanTransformer3DModel) -> WanTransformer3DModel:
        conductor = self.conductor
        for index, block in enumerate(module.blocks):
            conductor.slots.append(slot := Slot())
            block.attn1.set_processor(
                FreeSwimSelfAttnProcessor(block.attn1.processor, slot, conductor, shifted=index % 2 == 1)
            )
            block.attn2.set_processor(FreeSwimCrossAttnProcessor(block.attn2.processor, slot, conductor))
            HookRegistry.check_if_exists_or_initialize(block).register_hook(
                BlockHook(slot, conductor), _BLOCK_HOOK_NAME
            )
        return module

    def deinitalize_hook(self, module: WanTransformer3DModel) -> WanTransformer3DModel:  # diffusers spells it so
        for block in module.blocks:
            block._diffusers_hook.remove_hook(_BLOCK_HOOK_NAME, recurse=False)
            for attn in (block.attn1, block.attn2):
                attn.set_processor(attn.processor.original)
        # Hook and processors refer to each other: without this the record, gigabytes at 1920x1088, would stay until
        # Python's cycle collector runs.
        self.state_manager.reset()
        return module

    def reset_state(self, module: WanTransformer3DModel) -> WanTransformer3DModel:
        self.state_manager.reset()
        return module

    def new_forward(self, module: WanTransformer3DModel, *args: Any, **kwargs: Any) -> Any:
        context = self._context()
        names = list(inspect.signature(type(module).forward).parameters)[1:]
        inputs = dict(zip(names, args, strict=False)) | kwargs
        latents = inputs["hidden_states"]
        grid = _token_grid(module, latents)
        forward = self.fn_ref.original_forward
        if grid[1] <= self.config.window[0] and grid[2] <= self.config.window[1]:
            return forward(**inputs)

        check_supported(module)
        record, with_context = None, False
        if self._is_guided(context.name):
            branch: BranchState = self.state_manager.get_state()
            branch.enter_step(context.step_index, latents.shape)
            steps = self._steps(context)
            sigma = self._sigma(context)
            with_context = self.config.sees_context(branch.step, steps)
            if not self.config.needs_guide(branch.step, steps, sigma):
                branch.record = None  # nothing is left to hand over: windows alone
            elif branch.record is None or self.config.refreshes_guide(branch.step, steps, sigma):
                branch.record = None  # frees the old one before the guide needs memory
                branch.record = self._run_guide(module, inputs, grid, sigma, with_context)
            record = branch.record
        scale = self.config.effective_logit_scale
        with self.conductor.running(ForwardPass("window", grid, record, scale, with_context)):
            output = forward(**inputs)
        if record is None or record.clean is None or not self.config.anchors(context.sigma):
            return output
        velocity = anchored(output[0], latents, record.clean, sigma=float(context.sigma))
        return (velocity,) if isinstance(output, tuple) else Transformer2DModelOutput(sample=velocity)

    def _context(self) -> CacheContext:
        try:
            return self.state_manager.context
        except ValueError:
            raise ValueError(
                "FreeSwim must know which branch and step this call is. Wrap it: "
                'with transformer.cache_context("cond", step_index=i, sigma=s, num_inference_steps=n): ... '
                '("uncond" for the unconditional call). Or call remove_freeswim(transformer) for the stock model.'
            ) from None

    def _is_guided(self, branch_name: str) -> bool:
        if self.config.guide == "none":
            return False
        return self.config.guide_unconditional or not branch_name.startswith(_UNCONDITIONAL_PREFIXES)

    def _steps(self, context: CacheContext) -> int | None:
        if self.config.refresh_until < 1 and context.num_inference_steps is None:
            raise ValueError(
                f"refresh_until={self.config.refresh_until} is a part of the steps: tell their number, "
                "transformer.cache_context(..., num_inference_steps=n)."
            )
        return context.num_inference_steps

    def _sigma(self, context: CacheContext) -> float | None:
        if context.sigma is None and (self.config.guide == "downsampled" or self.config.anchor_above < 1):
            name = "guide" if self.config.guide == "downsampled" else "anchor_above"
            raise ValueError(
                f"{name}={getattr(self.config, name)!r} needs the noise level: tell it, "
                "transformer.cache_context(..., sigma=s), 0 <= s <= 1."
            )
        return None if context.sigma is None else float(context.sigma)

    def _run_guide(
        self, module: WanTransformer3DModel, inputs: dict[str, Any], grid: Grid, sigma: float | None, keeps_keys: bool
    ) -> GuideRecord:
        """Run the guide pass on the latents in `inputs` and return what it recorded, keys and values if asked for."""
        guide, level, logit_scale = grid, sigma, self.config.effective_logit_scale
        small = self._small_grid(grid)
        if self.config.guide == "downsampled":
            assert sigma is not None
            changed, level = _downsampled_inputs(module, inputs, small, sigma)
            inputs = inputs | changed
            guide, logit_scale = small, 1.0  # the model is at its trained size
        key_rotary = None
        if keeps_keys:
            positions = [scaled_positions(size, target) for size, target in zip(guide, grid, strict=True)]
            key_rotary = rotary_embedding(module.rope, positions, inputs["hidden_states"].device)
        record = GuideRecord(
            guide,
            keeps_output=self.config.override != "context",
            key_rotary=key_rotary,
            blocks=[BlockRecord() for _ in module.blocks],
            store=self._store(module, inputs["hidden_states"], grid, guide),
        )
        with self.conductor.running(ForwardPass("guide", guide, record, logit_scale)):
            output = self.fn_ref.original_forward(**inputs)
        if level is not None and self.config.anchors(sigma):
            clean = clean_estimate(output[0], inputs["hidden_states"], level)
            record.clean = average_down(clean, _latent_size(module, small))
        return record

    def _small_grid(self, grid: Grid) -> Grid:
        """The downsampled guide's tokens, which are also as fine as the anchor is."""
        frames, height, width = grid
        size = self.config.guide_grid or guide_grid((height, width), self.config.window)
        return frames, min(size[0], height), min(size[1], width)

    def _store(self, module: WanTransformer3DModel, latents: torch.Tensor, grid: Grid, guide: Grid) -> HostStore | None:
        """Main memory for the record, if it is asked for or what the device has left would not do."""
        device, place = latents.device, self.record_place
        if place == "auto" and device.type == "cuda":
            kept = self.config.tensors_recorded * len(module.blocks)
            unit = latents.shape[0] * module.config.num_attention_heads * module.config.attention_head_dim
            needed = kept * math.prod(guide) + _LIVE_ACTIVATIONS * math.prod(grid)
            unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            left = torch.cuda.mem_get_info(device)[0] + unused
            place = "host" if needed * unit * latents.element_size() > left else "device"
        return HostStore(device) if place == "host" else None


def _token_grid(module: WanTransformer3DModel, latents_BCTHW: torch.Tensor) -> Grid:
    frames, height, width = (
        size // patch for size, patch in zip(latents_BCTHW.shape[2:], module.config.patch_size, strict=True)
    )
    return frames, height, width


def _latent_size(module: WanTransformer3DModel, grid: Grid) -> tuple[int, int]:
    _, patch_height, patch_width = module.config.patch_size
    return grid[1] * patch_height, grid[2] * patch_width


def _downsampled_inputs(
    module: WanTransformer3DModel, inputs: dict[str, Any], guide: Grid, sigma: float
) -> tuple[dict[str, torch.Tensor], float]:
    """Latents and timestep of the downsampled guide, from those of the call at noise level `sigma`, and their level."""
    latents, shrink = downsample_latents(
        inputs["hidden_states"], _latent_size(module, guide), sigma=sigma, noisy_channels=module.config.out_channels
    )
    timestep = inputs["timestep"]
    if timestep.ndim == 2:  # one per token (Wan2.2 5B)
        if not bool((timestep == timestep[:, :1]).all()):
            raise ValueError(
                'guide="downsampled" needs one timestep for all tokens; this call has several (some frames are given). '
                'Use guide="full".'
            )
        timestep = timestep[:, :1].expand(-1, guide[0] * guide[1] * guide[2])
    # The scheduler's timestep is proportional to sigma, whatever the factor.
    return {"hidden_states": latents, "timestep": timestep.to(torch.float32) * shrink}, sigma * shrink
