"""The speed benchmark on tiny shapes, and that torch.compile compiles each phase once."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch._dynamo.utils import counters

from benchmarks import speed, speed_run
from benchmarks.speed_kernels import flex_exact, row_major_mask
from benchmarks.speed_model import TINY, Setting, linear_operations, window_keys
from freeswim import FreeSwimConfig, apply_freeswim, remove_freeswim
from freeswim.attention import window_attention
from freeswim.attention.reference import dense_mask
from freeswim.config import Override
from freeswim.windows import axis_segments
from tests.wan import random_latents, random_text, tiny_transformer


def test_the_whole_benchmark_runs_and_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "speed.json"
    options = ["--tiny", "--kernels", "--vae", "5", "--first-step"]
    options += ["--whole", "default", "paper", "--rivals", *speed.WAYS, "stock"]
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    data = speed.main([*options, "--output", str(file)])
    assert json.loads(file.read_text()) == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(data["sizes"]) == list(speed.TINY_SIZES)
    assert "failed" not in file.read_text()
    for size in data["sizes"].values():
        ours, context = size["freeswim, default"], size["freeswim, context"]["passes_s"]
        passes = ours["passes_s"]
        # Ten steps at a strength of 0.7, refreshed at 0 and 5. The last one or two are not noisy enough to be anchored.
        assert list(passes) == ["guide and window, anchor", "window, anchor", "window"]
        expected = 2 * passes["guide and window, anchor"] + 6 * passes["window, anchor"] + 2 * passes["window"]
        assert ours["stage_s"] == pytest.approx(2 * expected)
        assert ours["step_s"] == pytest.approx(2 * passes["window, anchor"])
        assert list(context) == ["guide and window, context", "window, context"]
        paper = size["freeswim, paper"]
        assert list(paper["passes_s"]) == ["guide and window", "window", "unconditional"]
        assert paper["step_s"] == pytest.approx(paper["passes_s"]["window"] + paper["passes_s"]["unconditional"])
        assert "freeswim, paper, all layers, record in main memory" in size
        for first in (size["first step"], size["first step, exact"]):
            assert first["waited_s"] == first["first_s"] - first["again_s"]
        assert size["stock, native"]["stage_s"] == pytest.approx(data["steps"] * size["stock, native"]["step_s"])
        assert size["floor"]["output"] < size["floor"]["context"]
        assert set(size["vae"]) == {"frames", "decode", "encode"}


def test_a_rival_that_fails_and_a_spent_limit_say_so(tmp_path: Path) -> None:
    options = ["--tiny", "--sizes", "192x160", "--rivals", "default", "--official", str(tmp_path)]
    size = speed.main(options)["sizes"]["192x160"]
    assert "cache" in size["official, cached"]["failed"]
    assert "stage_s" in size["freeswim, default"]
    size = speed.main([*options, "--limit", "0"])["sizes"]["192x160"]
    assert all("not run" in value for value in size.values())


def test_a_whole_run_tells_what_each_stage_took_and_was_expected_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    options = ["--tiny", "--size", "128x96", "--frames", "5", "--steps", "3", "--compare", "--output", str(file)]
    data = speed_run.main(options)
    assert json.loads(file.read_text()) == json.loads(capsys.readouterr().out.splitlines()[-1])
    stages = ["native", "decode native", "encode", "freeswim", "decode freeswim", "naive", "decode naive"]
    assert list(data["expected_seconds"]) == stages
    assert list(data["seconds"]) == ["prompt", *stages]
    assert all(took > 0 for took in data["seconds"].values())


def test_operations_are_counted_as_in_the_model() -> None:
    setting = Setting(config=TINY, window=(3, 4), latent_frames=2, text_length=8)
    tokens, width = 96, 48
    per_token = 4 * width**2 + 2 * 64 * width
    assert linear_operations(setting, tokens, cross_attention=False) == 2 * tokens * per_token
    cross = 2 * (2 * tokens * width**2 + 2 * 8 * width**2 + 2 * tokens * 8 * width)
    assert linear_operations(setting, tokens, cross_attention=True) == 2 * tokens * per_token + cross
    assert window_keys(setting, (2, 10, 3)) == 2 * 3 * 3


def test_flex_attention_gets_the_exact_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    grid, window = (5, 10, 14), (5, 6)
    q, k, v = (torch.randn(1, 700, 2, 16, generator=torch.Generator().manual_seed(i)) for i in range(3))
    run, _ = flex_exact(q, k, v, grid, window)
    expected = window_attention(q, k, v, grid=grid, window=window, implementation="reference")
    torch.testing.assert_close(run(), expected, atol=2e-6, rtol=1e-5)


def test_the_quick_block_mask_is_the_mask() -> None:
    grid = (3, 8, 17)
    rows, columns = axis_segments(8, 3), axis_segments(17, 5)
    mask = row_major_mask(grid, rows, columns, torch.device("cpu"))
    dense = torch.nn.functional.pad(dense_mask(3, rows, columns), (0, 104, 0, 104)).view(4, 128, 4, 128)
    assert torch.equal(mask.to_dense()[0, 0].bool(), dense.any(3).any(1))


# The calls after which nothing is compiled any more. With "output" the second branch's guide pass adds one frame:
# the block hook's, which the first branch's pass had inlined in the hook around it.
@pytest.mark.parametrize(("override", "settled"), [("both", 1), ("output", 2)])
def test_compiled_blocks_are_compiled_once_for_each_phase(override: Override, settled: int) -> None:
    """The first step compiles the guide pass and the window pass, for all blocks at once; later steps nothing."""
    model = tiny_transformer(num_layers=6)
    torch._dynamo.reset()
    counters.clear()
    apply_freeswim(model, FreeSwimConfig(window=(3, 4), query_tile=(1, 2), refresh_interval=2, override=override))
    expected = [_step(model, step, branch) for step in range(3) for branch in ("cond", "uncond")]
    model._reset_stateful_cache()
    model.compile_repeated_blocks(backend="eager")
    outputs, compiled = [], []
    for step in range(3):
        for branch in ("cond", "uncond"):
            outputs.append(_step(model, step, branch))
            compiled.append(counters["frames"]["ok"])
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))
    assert compiled[0] > 0
    assert compiled[settled:] == compiled[settled - 1 : settled] * (6 - settled), "something was compiled again"
    assert compiled[settled - 1] - compiled[0] == settled - 1
    remove_freeswim(model)
    torch._dynamo.reset()


def _step(model: WanTransformer3DModel, step: int, branch: str) -> torch.Tensor:
    with torch.no_grad(), model.cache_context(branch, step_index=step, sigma=0.9 - 0.1 * step, num_inference_steps=6):
        return model(random_latents((2, 6, 8), seed=step), torch.tensor([900]), random_text(), return_dict=False)[0]
