"""Attention kernels of the speed benchmark: ours, full attention, and others' kernels for exact windows per query."""

import importlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from benchmarks.speed_model import Grid, Setting, attention_operations, seconds, settle, window_keys
from freeswim.attention import exact, window_attention
from freeswim.attention.dense import attend
from freeswim.attention.reference import axis_mask
from freeswim.windows import Segment, axis_segments, balanced_tile

_BLOCK = 128


def attention_times(
    setting: Setting, grid: Grid, context: int, *, full: bool, flex: bool, natten: bool
) -> dict[str, Any]:
    """Milliseconds and useful operations per second of one layer's self-attention, per kernel."""
    device, dtype = setting.device, setting.dtype
    heads, dim = setting.config["num_attention_heads"], setting.config["attention_head_dim"]
    tokens = grid[0] * grid[1] * grid[2]
    q, k, v = (torch.randn(1, tokens, heads, dim, device=device, dtype=dtype) for _ in range(3))
    context_k, context_v = (torch.randn(1, context, heads, dim, device=device, dtype=dtype) for _ in range(2))
    windows: dict[str, Any] = {"grid": grid, "window": setting.window}
    tile = balanced_tile(grid[1:], setting.window)
    backends = ["_native_cudnn", "native"] if device.type == "cuda" else ["native"]
    kernels: dict[str, tuple[Callable[[], object], int]] = {}
    name = f"tiles {tile[0]}x{tile[1]}"
    ours = partial(window_attention, q, k, v, **windows)
    tiled = partial(ours, query_tile=tile)
    kernels[name] = tiled, window_keys(setting, grid)
    for backend in backends:
        alone = partial(_dense_calls, q, k, v, **windows, query_tile=tile, backend=backend)
        kernels[f"{name}, dense calls, {backend}"] = alone, window_keys(setting, grid)
        joined = partial(tiled, context_k=context_k, context_v=context_v, backend=backend)
        kernels[f"{name} and context, {backend}"] = joined, window_keys(setting, grid) + context
        if full:
            kernels[f"full, {backend}"] = partial(attend, q, k, v, None, None, backend), tokens
    results = {}
    with torch.no_grad():
        for name, (work, keys) in kernels.items():
            results[name] = _rate(setting, seconds(work, device, repeats=setting.repeats), tokens, keys)
        seen = window_keys(setting, grid)
        if flex:
            work, prepared = flex_exact(q, k, v, grid, setting.window)
            took = seconds(work, device, repeats=setting.repeats)
            results["per query, FlexAttention on permuted tokens"] = _rate(setting, took, tokens, seen) | prepared
        if natten:
            for name, work in natten_exact(q, k, v, grid, setting.window).items():
                results[name] = _rate(setting, seconds(work, device, repeats=setting.repeats), tokens, seen)
        took = seconds(ours, device, repeats=setting.repeats)
        results["per query"] = _rate(setting, took, tokens, seen)
        with patch("freeswim.attention.exact.KERNELS", (exact.ANY_GPU,)):
            took = seconds(ours, device, repeats=setting.repeats)
        results["per query, kernel for any GPU"] = _rate(setting, took, tokens, seen)
        took = seconds(partial(_dense_calls, q, k, v, **windows), device, repeats=setting.repeats)
        results["per query, dense calls"] = _rate(setting, took, tokens, seen)
    return results


def _dense_calls(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
    with patch("freeswim.attention.exact.KERNELS", ()):
        return window_attention(*tensors, **options)


def _rate(setting: Setting, took: float, tokens: int, keys: int) -> dict[str, float]:
    return {"ms": 1e3 * took, "TFLOP/s": attention_operations(setting, tokens, keys) / took / 1e12}


def flex_exact(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grid: Grid, window: tuple[int, int]
) -> tuple[Callable[[], torch.Tensor], dict[str, float]]:
    """Exact windows by FlexAttention over tokens ordered tile by tile, its block mask built from the geometry.

    Returns a call of q, k, v (B, L, heads, D) in their usual order, and the seconds of building and compiling.
    """
    start = time.perf_counter()
    rows, columns = (axis_segments(size, side) for size, side in zip(grid[1:], window, strict=True))
    order = tile_order(grid, _tile_for(grid[0]), q.device)
    mask = _permuted_mask(order, rows, columns, grid, q.device)
    settle(q.device)
    built = time.perf_counter() - start
    inverse = torch.argsort(order)
    kernel: Any = torch.compile(flex_attention, dynamic=False)

    def run() -> torch.Tensor:
        permuted = (x[:, order].transpose(1, 2) for x in (q, k, v))
        return kernel(*permuted, block_mask=mask).transpose(1, 2)[:, inverse]

    start = time.perf_counter()
    run()
    settle(q.device)
    return run, {"mask_s": built, "compile_s": time.perf_counter() - start}


def natten_exact(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grid: Grid, window: tuple[int, int]
) -> dict[str, Callable[[], torch.Tensor]]:
    """The same windows by NATTEN's kernel for Hopper, in each of its tile shapes and schedules, its copies included."""
    na3d = importlib.import_module("natten").na3d
    tensors = tuple(x.unflatten(1, grid) for x in (q, k, v))
    options = {"kernel_size": (grid[0], *window), "backend": "hopper-fna"}

    def call(tile: tuple[int, int, int], schedule: str) -> torch.Tensor:
        out: torch.Tensor = na3d(*tensors, **options, q_tile_shape=tile, kv_tile_shape=tile, kernel_schedule=schedule)
        return out.flatten(1, 3)

    shapes = (4, 4, 8), (2, 8, 8)
    return {
        f"per query, NATTEN hopper-fna {'x'.join(map(str, tile))} {schedule}": partial(call, tile, schedule)
        for tile, schedule in product(shapes, ("coop", "pp"))
    }


def _tile_for(frames: int) -> tuple[int, int]:
    """(y, x) of tiles that hold about a block of tokens over all frames, rather square."""
    best = max(range(1, _BLOCK // frames + 1), default=1)
    height = max(side for side in range(1, best + 1) if best % side == 0 and side * side <= best)
    return height, best // height


def tile_order(grid: Grid, tile: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Indices of tokens (t, y, x) sorted by tile, then t, y, x."""
    frames, height, width = grid
    t, y, x = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    across = -(-width // tile[1])
    key = (y // tile[0]) * across + x // tile[1]
    return torch.argsort(key.flatten() * frames * height * width + ((t * height + y) * width + x).flatten())


def _permuted_mask(
    order: torch.Tensor, rows: Sequence[Segment], columns: Sequence[Segment], grid: Grid, device: torch.device
) -> BlockMask:
    """The block mask of tokens in any `order`, by what each block of 128 holds at most and at least."""
    y, x = order % (grid[1] * grid[2]) // grid[2], order % grid[2]
    starts, extents = [], []
    for axis, position in ((rows, y), (columns, x)):
        first = torch.tensor([segment.keys[0] for segment in axis for _ in range(*segment.queries)], device=device)
        starts.append(first[position])
        extents.append(axis[0].keys[1] - axis[0].keys[0])

    def blocks(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        short = -len(values) % _BLOCK
        padded = torch.cat([values, values[-1:].expand(short)]).view(-1, _BLOCK)
        return padded.amin(1), padded.amax(1)

    some = whole = torch.ones((), dtype=torch.bool, device=device)
    for position, start, extent in zip((y, x), starts, extents, strict=True):
        low, high = blocks(position)
        earliest, latest = blocks(start)
        some = some & (high >= earliest[:, None]) & (low < latest[:, None] + extent)
        whole = whole & (low >= latest[:, None]) & (high < earliest[:, None] + extent)

    def visible(b: Any, h: Any, query: Any, key: Any) -> Any:
        row, column = starts[0][query], starts[1][query]
        inside = (y[key] >= row) & (y[key] < row + extents[0])
        return inside & (x[key] >= column) & (x[key] < column + extents[1])

    return _block_mask(some & ~whole, whole, visible, len(order))


def row_major_mask(grid: Grid, rows: Sequence[Segment], columns: Sequence[Segment], device: torch.device) -> BlockMask:
    """The block mask that `create_block_mask` makes of windows over tokens in row-major order, block by block."""
    row_mask, column_mask = axis_mask(rows).to(device), axis_mask(columns).to(device)
    tokens = grid[0] * grid[1] * grid[2]
    index = torch.arange(tokens, device=device)
    y, x = index % (grid[1] * grid[2]) // grid[2], index % grid[2]
    count = -(-tokens // _BLOCK)
    some, whole = (torch.zeros(count, count, dtype=torch.bool, device=device) for _ in range(2))
    for block in range(count):
        queries = slice(block * _BLOCK, (block + 1) * _BLOCK)
        seen = row_mask[y[queries]][:, y] & column_mask[x[queries]][:, x]
        seen = torch.nn.functional.pad(seen, (0, count * _BLOCK - tokens)).view(len(seen), count, _BLOCK)
        some[block], whole[block] = seen.any(-1).any(0), seen.all(-1).all(0) & (len(seen) == _BLOCK)

    def visible(b: Any, h: Any, query: Any, key: Any) -> Any:
        return row_mask[y[query], y[key]] & column_mask[x[query], x[key]]

    return _block_mask(some & ~whole, whole, visible, tokens)


def _block_mask(partial: torch.Tensor, whole: torch.Tensor, visible: Any, tokens: int) -> BlockMask:
    def listed(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        indices = torch.argsort(blocks.to(torch.int8), dim=1, descending=True, stable=True).to(torch.int32)
        return blocks.sum(1, dtype=torch.int32)[None, None], indices[None, None].contiguous()

    return BlockMask.from_kv_blocks(
        *listed(partial), *listed(whole), BLOCK_SIZE=_BLOCK, mask_mod=visible, seq_lengths=(tokens, tokens)
    )
