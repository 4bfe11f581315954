"""The Triton kernels on the CPU, in Triton's interpreter (tests/conftest.py asks for it), held to plain PyTorch.

Their speed, and what compiled code does on a GPU, is for tests/test_gpu.py.
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F

from freeswim import FreeSwimConfig, fused
from freeswim.attention import any_gpu, exact, tiles, window_attention
from freeswim.attention.dense import was_chosen
from freeswim.attention.reference import dense_mask, reference_attention
from freeswim.config import WindowMode
from freeswim.rotary import apply_rotary
from freeswim.warmup import build_kernels, build_kernels_behind
from freeswim.windows import axis_segments
from tests import gluon_on_cpu
from tests.compile_kernels import SHARED
from tests.wan import tiny_transformer

triton = pytest.importorskip("triton")
kernels = pytest.importorskip("freeswim.kernels")
any_gpu_kernel = pytest.importorskip("freeswim.attention.any_gpu_kernel")
pytestmark = pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="there is a GPU: see tests/test_gpu.py")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks small enough for small grids to have several, inner and outer ones."""
    monkeypatch.setattr(exact, "_QUERIES", 32)
    monkeypatch.setattr(any_gpu, "KEYS", 16)
    small = dataclasses.replace(exact.ANY_GPU, keys=16)
    monkeypatch.setattr(exact, "ANY_GPU", small)
    monkeypatch.setattr(exact, "KERNELS", (small,))
    for cached in (exact._work, exact._work_of_dense_calls):
        cached.cache_clear()


Case = tuple[tuple[int, int, int], tuple[int, int], tuple[int, int], WindowMode]
"""Grid, window, tile and mode."""

CASES: list[Case] = [
    ((3, 7, 9), (3, 4), (1, 1), "inward"),
    ((3, 7, 9), (3, 4), (1, 1), "clipped"),
    ((3, 7, 9), (3, 4), (1, 1), "blocks"),
    ((3, 7, 9), (5, 6), (2, 3), "inward"),
    ((2, 6, 11), (1, 1), (1, 1), "inward"),
    ((1, 6, 11), (20, 3), (1, 1), "inward"),
    ((7, 5, 4), (4, 9), (3, 2), "clipped"),
    ((5, 3, 12), (2, 7), (1, 1), "inward"),
]


@pytest.fixture
def block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_ROWS", request.param)


def hold_to_the_reference(kernel: exact.Kernel, case: Case, *, shape: tuple[int, int, int]) -> None:
    """Output and sums of a kernel, on tensors of `shape` (B, heads, D)."""
    grid, window, tile, mode = case
    rows, columns = (
        axis_segments(size, extent, tile=side, mode=mode)
        for size, extent, side in zip(grid[1:], window, tile, strict=True)
    )
    batch, heads, dim = shape
    q, k, v = (noise(batch, grid[0] * grid[1] * grid[2], heads, dim, seed=i) for i in range(3))
    options: dict[str, Any] = {"frames": grid[0], "rows": rows, "columns": columns, "scale": 0.3}
    out, sums = exact.exact_attention(q, k, v, **options, wants_sum=True, kernel=kernel)
    torch.testing.assert_close(out, reference_attention(q, k, v, **options, context=None), atol=2e-6, rtol=1e-5)
    logits = torch.einsum("blhd,bmhd->blhm", q, k) * 0.3
    hidden = ~dense_mask(grid[0], rows, columns)[None, :, None]
    torch.testing.assert_close(sums, logits.masked_fill(hidden, float("-inf")).logsumexp(-1), atol=1e-5, rtol=1e-5)
    assert exact.exact_attention(q, k, v, **options, kernel=kernel)[1] is None


@pytest.mark.usefixtures("_small_blocks", "block_rows")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block_rows", [1, 4], indirect=True)
def test_exact_windows_equal_the_reference(case: Case) -> None:
    hold_to_the_reference(exact.ANY_GPU, case, shape=(1, 2, 16))


@pytest.mark.usefixtures("block_rows")
@pytest.mark.parametrize(
    "case",
    [
        ((5, 7, 30), (4, 16), (1, 1), "inward"),
        ((5, 7, 30), (4, 16), (1, 1), "clipped"),
        ((4, 7, 30), (3, 8), (1, 1), "blocks"),
        ((7, 6, 13), (5, 9), (2, 3), "inward"),
        ((40, 3, 5), (2, 3), (1, 1), "inward"),
        ((1, 1, 40), (1, 5), (1, 1), "clipped"),
    ],
)
@pytest.mark.parametrize("block_rows", [1, 2, 4], indirect=True)
def test_the_kernel_for_hopper_reads_what_it_should(case: Case) -> None:
    """Its source run step by step on the CPU (see tests/gluon_on_cpu.py)."""
    several = 2 if case[0] == (40, 3, 5) else 1  # heads, and videos of a batch
    kernel = dataclasses.replace(exact.HOPPER, keys=gluon_on_cpu.KEYS, launch=gluon_on_cpu.launch)
    hold_to_the_reference(kernel, case, shape=(several, several, 8))


@pytest.mark.usefixtures("_small_blocks")
def test_small_tiles_go_to_the_kernel_and_are_joined_with_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA, but for the context's own attention, which plain PyTorch computes here."""

    def with_sum(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.einsum("blhd,bmhd->blhm", q.float(), k.float()) * q.shape[-1] ** -0.5
        return torch.einsum("blhm,bmhd->blhd", logits.softmax(-1), v.float()).to(q.dtype), logits.logsumexp(-1)

    monkeypatch.setattr(exact, "available", lambda *tensors: True)
    monkeypatch.setattr(tiles, "tells_sum", lambda q, backend: True)
    monkeypatch.setattr(tiles, "attend_with_sum", with_sum)
    called: list[bool] = []
    attention = exact.exact_attention

    def counted(*tensors: torch.Tensor, wants_sum: bool, **options: Any) -> Any:
        called.append(wants_sum)
        return attention(*tensors, wants_sum=wants_sum, **options)

    monkeypatch.setattr(exact, "exact_attention", counted)
    monkeypatch.setattr(exact, "_is_right", lambda *arguments: True)
    q, k, v = (noise(2, 3 * 63, 2, 16, seed=i).half() for i in range(3))
    context: dict[str, Any] = {
        "context_k": noise(2, 5, 2, 16, seed=3).half(),
        "context_v": noise(2, 5, 2, 16, seed=4).half(),
    }
    options: dict[str, Any] = {"grid": (3, 7, 9), "window": (3, 4)}
    none: dict[str, Any] = {}
    for keys in (none, context):
        out = window_attention(q, k, v, **options, **keys)
        full: dict[str, Any] = {name: x.float() for name, x in keys.items()}
        expected = window_attention(q.float(), k.float(), v.float(), **options, **full, implementation="reference")
        torch.testing.assert_close(out.float(), expected, atol=5e-3, rtol=5e-3)
    assert called == [False, True]
    window_attention(q, k, v, grid=(3, 7, 9), window=(9, 9), query_tile=(9, 9))
    window_attention(q, k, v, grid=(3, 7, 9), window=(7, 9))
    window_attention(q.float(), k.float(), v.float(), **options)
    assert called == [False, True], "queries that fill a dense call, and float32, do without"


@pytest.mark.parametrize("right", [True, False])
def test_window_attention_runs_on_the_first_kernel_that_is_right(right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel for Hopper, run on the CPU, is checked and used; if it is wrong, the one for any GPU is."""
    used: list[str] = []

    def noted(name: str, launch: Any) -> Any:
        def run(*arguments: Any, **constants: Any) -> None:
            used.append(name)
            launch(*arguments, **constants)
            if name == "hopper" and not right:
                out = arguments[4]
                out[:, -1] += 9

        return run

    fast = dataclasses.replace(
        exact.HOPPER, keys=gluon_on_cpu.KEYS, launch=noted("hopper", gluon_on_cpu.launch), takes=lambda q: True
    )
    slow = dataclasses.replace(exact.ANY_GPU, launch=noted("any", exact.ANY_GPU.launch))
    monkeypatch.setattr(exact, "KERNELS", (fast, slow))
    monkeypatch.setattr(exact, "available", lambda *tensors: True)
    q, k, v = (noise(1, 4 * 7 * 30, 1, 16, seed=i).half() for i in range(3))
    expected = window_attention(q, k, v, grid=(4, 7, 30), window=(5, 16), implementation="reference")
    for _ in range(2):
        out = window_attention(q, k, v, grid=(4, 7, 30), window=(5, 16))
        torch.testing.assert_close(out, expected, atol=2e-3, rtol=2e-3)
    assert used == (["hopper"] * 3 if right else ["hopper", "any", "any", "any"]), "one check, then every call"


@pytest.mark.parametrize("heads", [2, 3])
def test_the_norm_and_the_rotary_embedding_are_those_of_the_model(heads: int) -> None:
    dim, eps = 16, 1e-6
    x, weight = noise(2, 5, heads * dim), noise(heads * dim, seed=1)
    angles = noise(1, 5, 1, dim // 2, seed=2).repeat_interleave(2, -1)
    rotary = angles.cos(), angles.sin()
    normed = F.rms_norm(x, x.shape[-1:], weight, eps).unflatten(2, (heads, dim))
    torch.testing.assert_close(fused.norm_and_rotate(x, weight, eps, None, heads), normed)
    torch.testing.assert_close(fused.norm_and_rotate(x, weight, eps, rotary, heads), apply_rotary(normed, rotary))
    plain = x.unflatten(2, (heads, dim))
    torch.testing.assert_close(fused.norm_and_rotate(x, None, eps, rotary, heads), apply_rotary(plain, rotary))


@pytest.mark.parametrize("batch", [1, 2])
def test_adding_gating_and_norming_is_what_the_block_does(batch: int) -> None:
    channels, eps = 24, 1e-6
    x, y = noise(batch, 5, channels), noise(batch, 5, channels, seed=1)
    gate, scale, shift = (noise(batch, 1, channels, seed=i) for i in (2, 3, 4))
    norm = F.layer_norm(x, (channels,), eps=eps)
    torch.testing.assert_close(fused.add_and_norm(x, scale=scale, shift=shift, eps=eps), norm * (1 + scale) + shift)
    summed = x + y * gate
    stream = x.clone()
    assert fused.add_and_norm(stream, y, gate) is None
    torch.testing.assert_close(stream, summed)
    stream = x.clone()
    affine = fused.add_and_norm(stream, y, gate, scale=scale[0, 0], shift=shift[0, 0], eps=eps, modulated=False)
    torch.testing.assert_close(affine, F.layer_norm(summed, (channels,), scale[0, 0], shift[0, 0], eps))
    torch.testing.assert_close(stream, summed)


def test_tokens_are_copied_between_any_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "available", lambda *tensors: True)
    source = noise(2, 3, 4, 5, 2, 8)
    for order in ((0, 1, 2, 3, 4, 5), (0, 3, 1, 2, 4, 5), (0, 2, 3, 1, 4, 5)):
        view = source[:, :, 1:3].permute(order)
        target = torch.zeros(view.shape)
        fused.copy_tokens(target, view)
        assert torch.equal(target, view)
    large = torch.zeros(2, 3, 6, 5, 2, 8)
    fused.copy_tokens(large[:, :, 1:5], source)
    assert torch.equal(large[:, :, 1:5], source)
    assert not large[:, :, [0, 5]].any()


@pytest.mark.parametrize("target", [(4, 9), (7, 6), (3, 5)])
def test_tokens_are_resized_as_pictures_are(target: tuple[int, int]) -> None:
    x = noise(2, 3 * 3 * 5, 24)
    pictures = x.unflatten(1, (3, 3, 5)).flatten(0, 1).movedim(-1, 1)
    expected = F.interpolate(pictures, target, mode="bilinear", align_corners=False).movedim(1, -1)
    actual = fused.resize_tokens(x, (3, 3, 5), (3, *target))
    torch.testing.assert_close(actual, expected.reshape(actual.shape))


@pytest.mark.parametrize("keys", [16, 128])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("block_rows", [1, 2, 8])
@pytest.mark.parametrize("mode", get_args(WindowMode))
def test_the_work_is_that_of_the_blocks(
    mode: WindowMode, block_rows: int, parts: int, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from scratch: each part of a block of queries reads whole blocks of keys in every row that it sees."""
    frames, height, width, window = 3, 21, 40, (9, 16)
    rows, columns = (tuple(axis_segments(n, w, mode=mode)) for n, w in zip((height, width), window, strict=True))
    by_row, by_column = ([range(*s.keys) for s in axis for _ in range(*s.queries)] for axis in (rows, columns))
    span, own_rows, pairs = 128 // block_rows, block_rows // min(parts, block_rows), 0
    for top, first in product(range(0, height, own_rows), range(0, width * frames, span)):
        across = {place // frames for place in range(first, min(first + span, width * frames))}
        seen_rows = {y for row in range(top, min(top + own_rows, height)) for y in by_row[row]}
        seen = {x for column in across for x in by_column[column]}
        pairs += own_rows * span * len(seen_rows) * -(-len(seen) * frames // keys) * keys
    kernel = dataclasses.replace(exact.ANY_GPU, keys=keys, parts=parts)
    monkeypatch.setattr(exact, "_ROWS", block_rows)
    assert exact._pairs(kernel, frames, rows, columns) == pairs


def test_the_price_of_a_kernel_decides() -> None:
    """At 1920x1088 the kernel for any GPU takes single queries, and that for Hopper a third of a window as well."""
    sizes, window = (68, 120), (30, 52)
    single, third, whole = (
        (21, *(tuple(axis_segments(n, w, tile=t)) for n, w, t in zip(sizes, window, tile, strict=True)))
        for tile in ((1, 1), (10, 15), window)
    )

    def wins(kernel: exact.Kernel, geometry: Any) -> bool:
        return kernel.price * exact._work(kernel, *geometry) < exact._work_of_dense_calls(*geometry)

    assert [wins(exact.ANY_GPU, geometry) for geometry in (single, third, whole)] == [True, False, False]
    assert [wins(exact.HOPPER, geometry) for geometry in (single, third)] == [True, True]


def test_a_kernel_that_is_wrong_or_cannot_be_built_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def zeros(*arguments: Any, **constants: Any) -> None:
        out = arguments[4]
        out.zero_()

    def missing(*arguments: Any, **constants: Any) -> None:
        raise RuntimeError("no ptxas")

    cpu = torch.device("cpu")
    assert exact._is_right(exact.ANY_GPU, cpu, torch.float16, 64)
    assert not caplog.records
    assert not exact._is_right(dataclasses.replace(exact.HOPPER, launch=zeros), cpu, torch.float16, 64)
    assert not exact._is_right(dataclasses.replace(exact.HOPPER, launch=missing), cpu, torch.float16, 64)
    assert ["wrong here" in caplog.records[0].message, "no ptxas" in caplog.records[1].message] == [True, True]


@pytest.mark.parametrize("backend", ["native", "_native_cudnn", "_native_math"])
@pytest.mark.parametrize("tile", [(1, 1), (10, 15)])
def test_a_backend_that_somebody_chose_keeps_the_tiles_that_suit_it(
    tile: tuple[int, int], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "available", lambda *tensors: True)
    monkeypatch.setattr(exact, "_is_right", lambda *arguments: True)
    monkeypatch.setattr(exact, "KERNELS", (dataclasses.replace(exact.HOPPER, takes=lambda q: True),))
    rows, columns = (axis_segments(n, w, tile=t) for n, w, t in zip((68, 120), (30, 52), tile, strict=True))
    kernel = exact.choose(torch.empty(0), 21, rows, columns, None, than_chosen=was_chosen(backend))
    assert (kernel is not None) == (tile == (1, 1) or backend != "_native_math")


def test_kernels_compile_and_fit_into_shared_memory() -> None:
    """By the compiler alone: no GPU is needed for that. What they compute is for tests/test_gpu.py."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.compile_kernels"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert [len(kernels) for kernels in found.values()] == 6 * [2]
    for kernel in found.pop("hopper"):
        assert kernel["wgmma"] > 0, "tensor cores are used as Hopper has them"
        assert kernel["setmaxnreg"] > 0, "warps have parts of their own"
        assert kernel["shared_memory"] <= 227 << 10
    for capability, kernels in found.items():
        for kernel in kernels:
            assert kernel["arch"] == int(capability)
            assert 0 < kernel["shared_memory"] <= SHARED[int(capability)] << 10, capability


def test_a_kernel_built_ahead_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    kernel = any_gpu_kernel.attend_in_windows

    class Noted:
        def __getitem__(self, grid: Any) -> Any:
            def run(*args: Any, **meta: Any) -> None:
                made.append(meta)
                kernel[grid](*args, **meta)

            return run

    monkeypatch.setattr(any_gpu_kernel, "attend_in_windows", Noted())
    q = noise(1, 3 * 12 * 14, 2, 16).half()
    options: dict[str, Any] = {
        "frames": 3,
        "rows": tuple(axis_segments(12, 5)),
        "columns": tuple(axis_segments(14, 6)),
        "scale": None,
    }
    monkeypatch.setattr(exact, "available", lambda *tensors: True)
    exact._is_right.cache_clear()
    chosen = exact.choose(q, *options.values())
    assert chosen == exact.ANY_GPU
    exact.build_with_sums(chosen, q)
    for wants_sum in (False, True):
        exact.exact_attention(q, q, q, **options, kernel=chosen, wants_sum=wants_sum)
    assert [meta["SUMS"] for meta in made] == [False, True, False, True]
    assert made[:2] == made[2:]


def test_what_is_built_ahead_runs_for_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the blocks then find all kernels built is for tests/test_gpu.py."""
    names = ("add_and_norm", "norm_and_rotate", "copy_rows", "resize")
    run = dict.fromkeys(names, 0)

    def counted(name: str) -> Any:
        kernel = getattr(kernels, name)

        class Counted:
            def __getitem__(self, grid: Any) -> Any:
                run[name] += 1
                return kernel[grid]

        return Counted()

    for name in names:
        monkeypatch.setattr(kernels, name, counted(name))
    monkeypatch.setattr(fused, "available", lambda *tensors: True)
    model = tiny_transformer(attention_head_dim=32, cross_attn_norm=True)
    build_kernels(model, torch.device("cpu"))
    assert run == {"add_and_norm": 4, "norm_and_rotate": 3, "copy_rows": 1, "resize": 1}
    built: list[int] = []
    monkeypatch.setattr(exact, "available", lambda *tensors: True)
    monkeypatch.setattr(exact, "build_with_sums", lambda kernel, like: built.append(like.shape[-1]))
    ways: list[dict[str, Any]] = [
        {"query_tile": (1, 1), "override": "both"},
        {"query_tile": (1, 1), "override": "output"},
        {"query_tile": (5, 7), "override": "both"},
    ]
    passes = [((11, 10, 20), FreeSwimConfig(window=(5, 7), **way)) for way in ways]
    build_kernels(model.half(), torch.device("cpu"), passes)
    assert built == [32], "without context no sums are needed, and none for tiles that are dense calls"
    assert build_kernels_behind(tiny_transformer(), torch.device("cpu")) is None, "there are none for the CPU"
