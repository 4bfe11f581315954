"""apply_freeswim against a straightforward implementation, and at its limits."""

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from diffusers import WanTransformer3DModel

from freeswim import FreeSwimConfig, apply_freeswim, remove_freeswim
from freeswim.config import Guide, Override, WindowMode
from tests.straightforward import Position, StraightforwardFreeSwim
from tests.straightforward import forward as straightforward_forward
from tests.wan import random_latents, random_text, tiny_transformer

GRID = (2, 6, 8)
WINDOW = (3, 4)
SIGMAS = (0.95, 0.9, 0.8, 0.65, 0.4, 0.2)
# Eight times the tolerance of one attention: float32 through three blocks.
CLOSE = {"atol": 2e-5, "rtol": 1e-4}

Step = Callable[[WanTransformer3DModel, str, int], torch.Tensor]


@pytest.fixture(scope="module")
def model() -> Iterator[WanTransformer3DModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small gain nothing from threads, and lose much on a busy machine
    yield tiny_transformer()
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _unhooked(model: WanTransformer3DModel) -> Iterator[None]:
    with torch.inference_mode():
        yield
    remove_freeswim(model)


def inputs(step: int, branch: str = "cond", grid: tuple[int, int, int] = GRID) -> dict[str, torch.Tensor]:
    """Latents that change from step to step, and a text for each branch."""
    return {
        "hidden_states": random_latents(grid, seed=step),
        "timestep": torch.tensor([int(SIGMAS[step] * 1000)]),
        "encoder_hidden_states": random_text(seed=int(branch == "cond")),
    }


def call(model: WanTransformer3DModel, step: int, branch: str = "cond", **changes: object) -> torch.Tensor:
    """One call as WanPipeline makes it."""
    position = {"step_index": step, "sigma": SIGMAS[step], "num_inference_steps": len(SIGMAS)} | changes
    with model.cache_context(branch, **position):
        return model(**inputs(step, branch), return_dict=False)[0]


def run(model: WanTransformer3DModel, config: FreeSwimConfig) -> list[torch.Tensor]:
    """All steps of both branches with FreeSwim applied."""
    apply_freeswim(model, config)
    outputs = [call(model, step, branch) for step in range(len(SIGMAS)) for branch in ("cond", "uncond")]
    remove_freeswim(model)
    return outputs


def run_straightforward(model: WanTransformer3DModel, config: FreeSwimConfig) -> list[torch.Tensor]:
    swim = StraightforwardFreeSwim(model, config)
    outputs = []
    for step, sigma in enumerate(SIGMAS):
        for branch in ("cond", "uncond"):
            latents, timestep, text = inputs(step, branch).values()
            position = Position(branch=branch, step=step, steps=len(SIGMAS), sigma=sigma)
            outputs.append(swim(latents, timestep, text, position))
    return outputs


def assert_all_close(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, atol=CLOSE["atol"], rtol=CLOSE["rtol"])


def differs(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Far beyond rounding: a test that passes whichever way would prove nothing."""
    return (a - b).abs().max().item() > 100 * CLOSE["atol"]


def test_the_straightforward_pass_is_the_stock_model(model: WanTransformer3DModel) -> None:
    latents, timestep, text = inputs(2).values()
    stock = model(latents, timestep, text, return_dict=False)[0]
    torch.testing.assert_close(straightforward_forward(model, latents, timestep, text)[0], stock, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("interval", [1, 2, 3, 5])
@pytest.mark.parametrize("unconditional", [False, True])
@pytest.mark.parametrize("guide", ["full", "downsampled"])
@pytest.mark.parametrize("override", ["output", "context", "both"])
def test_guided_runs_equal_the_straightforward_implementation(
    model: WanTransformer3DModel, override: Override, guide: Guide, unconditional: bool, interval: int
) -> None:
    config = FreeSwimConfig(
        window=WINDOW, guide=guide, override=override, guide_unconditional=unconditional, refresh_interval=interval
    )
    assert_all_close(run(model, config), run_straightforward(model, config))


@pytest.mark.parametrize("mode", ["inward", "clipped", "blocks"])
def test_windows_alone_equal_the_straightforward_implementation(model: WanTransformer3DModel, mode: WindowMode) -> None:
    config = FreeSwimConfig.naive(WINDOW, mode)
    assert_all_close(run(model, config), run_straightforward(model, config))


@pytest.mark.parametrize("override", ["context", "both", "output"])
def test_context_may_end_before_the_steps_do(model: WanTransformer3DModel, override: Override) -> None:
    config = FreeSwimConfig(window=WINDOW, override=override, refresh_interval=2, context_until=0.5)
    assert_all_close(run(model, config), run_straightforward(model, config))


def test_every_choice_changes_the_result(model: WanTransformer3DModel) -> None:
    """Otherwise the comparisons above could pass with a choice ignored."""
    base = FreeSwimConfig(window=WINDOW, override="both", refresh_interval=2)
    outputs = run(model, base)
    for change in (
        {"window": (4, 4)},
        {"query_tile": (3, 4)},
        {"window_mode": "clipped"},
        {"guide": "full"},
        {"guide": "none"},
        {"override": "output"},
        {"override": "context"},
        {"refresh_interval": 3},
        {"refresh_until": 0.3},
        {"context_until": 0.5},
        {"anchor_above": 1.0},
        {"guide_unconditional": False},
        {"logit_scale": 2.0},
        {"guide_grid": (2, 3)},
    ):
        changed = run(model, replace(base, **change))
        assert any(differs(a, b) for a, b in zip(outputs, changed, strict=True)), change
    tiles = [run(model, replace(base, query_tile=(3, 2), shift_tiles=shift)) for shift in (False, True)]
    assert any(differs(a, b) for a, b in zip(*tiles, strict=True))


def test_interval_one_equals_no_caching(model: WanTransformer3DModel) -> None:
    config = FreeSwimConfig(window=WINDOW, guide_unconditional=True, refresh_interval=1)
    outputs = []
    for step in range(len(SIGMAS)):
        for branch in ("cond", "uncond"):
            apply_freeswim(model, config)  # nothing can be left from the step before
            outputs.append(call(model, step, branch))
            remove_freeswim(model)
    assert all(torch.equal(a, b) for a, b in zip(run(model, config), outputs, strict=True))


def test_refresh_until_freezes_the_guide(model: WanTransformer3DModel) -> None:
    frozen = FreeSwimConfig(window=WINDOW, refresh_interval=1, refresh_until=1 / 3)  # steps 0 and 1 of 6
    every = FreeSwimConfig(window=WINDOW, refresh_interval=1)
    until_end, until_third = run(model, every), run(model, frozen)
    assert all(torch.equal(a, b) for a, b in zip(until_end[:4], until_third[:4], strict=True))
    assert all(differs(until_end[i], until_third[i]) for i in (4, 6, 8, 10))
    assert_all_close(until_third, run_straightforward(model, frozen))


def test_a_branch_starts_afresh_at_step_zero_and_when_steps_go_back(model: WanTransformer3DModel) -> None:
    apply_freeswim(model, FreeSwimConfig(window=WINDOW, refresh_interval=4))
    first = [call(model, step) for step in range(3)]
    again = [call(model, step) for step in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    call(model, 3)
    fresh = call(model, 2)
    assert differs(fresh, first[2]), "the guide ran at step 2, not at step 0"


def test_without_step_index_calls_are_counted(model: WanTransformer3DModel) -> None:
    config = FreeSwimConfig(window=WINDOW, refresh_interval=2)
    apply_freeswim(model, config)
    told = [call(model, step) for step in range(4)]
    model._reset_stateful_cache()
    counted = [call(model, step, step_index=None) for step in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(told, counted, strict=True))


def test_a_run_that_starts_late_has_a_guide(model: WanTransformer3DModel) -> None:
    """Wan2.2's second transformer is first called in the middle of a run."""
    apply_freeswim(model, FreeSwimConfig(window=WINDOW, refresh_interval=2, refresh_until=0.1))
    late = call(model, 3)
    remove_freeswim(model)
    apply_freeswim(model, FreeSwimConfig(window=WINDOW, refresh_interval=1))
    assert torch.equal(late, call(model, 3))


@pytest.mark.parametrize("override", ["output", "context", "both"])
def test_a_record_in_main_memory_changes_nothing(model: WanTransformer3DModel, override: Override) -> None:
    config = FreeSwimConfig(window=WINDOW, override=override, context_until=1.0, refresh_interval=2)
    kept = run(model, config)
    apply_freeswim(model, config, record="host")
    sent = [call(model, step, branch) for step in range(len(SIGMAS)) for branch in ("cond", "uncond")]
    assert all(torch.equal(a, b) for a, b in zip(kept, sent, strict=True))
    record = model._diffusers_hook.get_hook("freeswim").state_manager._state_cache["cond"].record
    assert record.store is not None
    assert all(block.output is None and block.key is None for block in record.blocks), "nothing stays on the device"


def test_a_grid_that_fits_in_the_window_is_the_stock_model(model: WanTransformer3DModel) -> None:
    stock = model(**inputs(0), return_dict=False)[0]
    for window in ((6, 8), (7, 20)):
        for guide in ("full", "downsampled", "none"):
            apply_freeswim(model, FreeSwimConfig(window=window, guide=guide, window_mode="clipped", logit_scale=3.0))
            assert torch.equal(call(model, 0), stock)
            remove_freeswim(model)


def test_a_window_as_wide_as_the_grid_only_cuts_the_other_axis(model: WanTransformer3DModel) -> None:
    config = FreeSwimConfig(window=(3, 8), guide="full", override="output", anchor_above=1)
    assert_all_close(run(model, config), run_straightforward(model, config))


def test_full_attention_in_the_window_pass_would_be_the_stock_model(model: WanTransformer3DModel) -> None:
    """A full guide on the same latents hands over just what a full main pass computes itself."""
    stock = model(**inputs(0), return_dict=False)[0]
    apply_freeswim(model, FreeSwimConfig(window=(5, 8), guide="full", override="output", logit_scale=1.0))
    nearly = call(model, 0)
    assert (nearly - stock).abs().max() < 0.1 * stock.abs().max()
    assert not torch.equal(nearly, stock)


def test_removal_is_exact(model: WanTransformer3DModel) -> None:
    processors = model.attn_processors
    stock = model(**inputs(0), return_dict=False)[0]
    apply_freeswim(model, FreeSwimConfig(window=WINDOW))
    assert differs(call(model, 0), stock)
    remove_freeswim(model)
    assert all(model.attn_processors[name] is processor for name, processor in processors.items())
    assert torch.equal(model(**inputs(0), return_dict=False)[0], stock)
    remove_freeswim(model)  # nothing to remove, nothing happens


def test_removal_frees_what_was_recorded_at_once(model: WanTransformer3DModel) -> None:
    apply_freeswim(model, FreeSwimConfig(window=WINDOW, override="both"))
    call(model, 0)
    branches = model._diffusers_hook.get_hook("freeswim").state_manager._state_cache
    records = [tensor for block in branches["cond"].record.blocks for tensor in (block.key, block.output)]
    alive = [weakref.ref(tensor) for tensor in records]
    assert len(alive) == 2 * len(model.blocks)
    del branches, records
    gc.disable()  # reference cycles must not be what frees them
    try:
        remove_freeswim(model)
        assert not any(ref() is not None for ref in alive)
    finally:
        gc.enable()


def test_errors_say_what_to_do(model: WanTransformer3DModel) -> None:
    apply_freeswim(model, FreeSwimConfig(window=WINDOW))
    with pytest.raises(ValueError, match=r"already applied.*remove_freeswim"):
        apply_freeswim(model, FreeSwimConfig(window=WINDOW))
    with pytest.raises(ValueError, match=r'with transformer.cache_context\("cond", step_index=i, sigma=s'):
        model(**inputs(0))
    with pytest.raises(ValueError, match="sigma=s"):
        call(model, 0, sigma=None)
    remove_freeswim(model)
    apply_freeswim(model, FreeSwimConfig(window=WINDOW, refresh_until=0.5))
    with pytest.raises(ValueError, match=r"refresh_until=0\.5.*num_inference_steps=n"):
        call(model, 0, num_inference_steps=None)
    with pytest.raises(ValueError, match="Linear"):
        apply_freeswim(torch.nn.Linear(1, 1), FreeSwimConfig(window=WINDOW))
    with pytest.raises(ValueError, match="config must be"):
        apply_freeswim(model, {"window": WINDOW})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="record='disk'"):
        apply_freeswim(model, FreeSwimConfig(window=WINDOW), record="disk")  # type: ignore[arg-type]


def test_a_failed_call_leaves_the_model_usable(model: WanTransformer3DModel) -> None:
    apply_freeswim(model, FreeSwimConfig(window=WINDOW))
    expected = call(model, 0)
    model.blocks[1].ffn.register_forward_pre_hook(interrupt := Interrupt())
    with pytest.raises(KeyboardInterrupt):
        call(model, 0)
    interrupt.armed = False
    assert torch.equal(call(model, 0), expected)
    model.blocks[1].ffn._forward_pre_hooks.clear()


class Interrupt:
    """Stops a forward pass in the middle, as a user's Ctrl-C would."""

    armed = True

    def __call__(self, module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if self.armed:
            raise KeyboardInterrupt


def test_batches_and_positional_arguments(model: WanTransformer3DModel) -> None:
    config = FreeSwimConfig(window=WINDOW, refresh_interval=2)
    single = run(model, config)[0]
    apply_freeswim(model, config)
    one = inputs(0)
    with model.cache_context("cond", step_index=0, sigma=SIGMAS[0], num_inference_steps=len(SIGMAS)):
        both = model(
            torch.cat([one["hidden_states"], random_latents(GRID, seed=9)]),
            one["timestep"].expand(2),
            one["encoder_hidden_states"].expand(2, -1, -1),
        ).sample
    torch.testing.assert_close(both[:1], single, atol=1e-5, rtol=1e-4)
    assert differs(both[1:], single)


def test_latents_of_another_shape_start_afresh(model: WanTransformer3DModel) -> None:
    apply_freeswim(model, FreeSwimConfig(window=WINDOW, refresh_interval=5))
    call(model, 1)
    with model.cache_context("cond", step_index=2, sigma=SIGMAS[2], num_inference_steps=len(SIGMAS)):
        wide = model(**inputs(2, grid=(2, 6, 10)), return_dict=False)[0]
    assert wide.shape[-1] == 20
    assert wide.isfinite().all()
