"""The kernel of `freeswim.attention.any_gpu_kernel` for Hopper GPUs, after FlashAttention-3 (arXiv 2407.08608).

In Gluon, Triton's language for kernels that place their own data. A program handles one head of 128 queries, ROWS rows
of the grid by SPAN neighbours, tokens being counted in "places" as in `any_gpu_kernel`. Two warpgroups compute, each
for half of the queries, and one warp copies keys and values for both into rings of shared memory (TMA). A warpgroup
starts the logits of a block of keys and the product of the last block's values together, and takes the softmax of the
former while the tensor cores still work on the latter.

Of each grid row that some query sees, places are cut into blocks of KEYS. All three walk through the same sequence of
blocks: row by row, and of a row first the blocks whose columns all queries see, then the edges, which need a mask. A
warpgroup passes over rows at the top and at the bottom that only the other half sees.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.language.core import _aggregate as aggregate

# Gluon's functions carry no types. Assigned values of its aggregates are typed for Gluon's compiler.
# mypy: disable-error-code="no-untyped-def,misc,untyped-decorator"

_copy_in = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared  # renamed after Triton 3.6
QUERIES = 128  # of a program
_HALF = gl.constexpr(QUERIES // 2)  # of a warpgroup: the rows of one wgmma


@aggregate
class Blocks:
    """The sequence of blocks: `every` of each row."""

    top: gl.tensor  # the first row that any query sees, ...
    bottom: gl.tensor  # ... and the one behind the last
    begin: gl.tensor  # the first place that any query sees
    every: gl.tensor
    whole: gl.tensor  # blocks of places that all queries see, ...
    first_whole: gl.tensor  # ... and the first of them

    @gluon.constexpr_function
    def __init__(self, top, bottom, begin, every, whole, first_whole):
        self.top = top
        self.bottom = bottom
        self.begin = begin
        self.every = every
        self.whole = whole
        self.first_whole = first_whole

    @gluon.jit
    def place(self, j, KEYS: gl.constexpr):
        """The first place of block j of a row: first the whole ones, then the edges in front and behind."""
        edge = j - self.whole
        edge = gl.where(edge < self.first_whole, edge, edge + self.whole)
        return self.begin + gl.where(j < self.whole, self.first_whole + j, edge) * KEYS


@gluon.jit
def _blocks_of(row_bounds, column_bounds, frames, height, width, first_row, last_row, first, last, KEYS: gl.constexpr):
    # Windows never move backwards along an axis.
    top, bottom = gl.load(row_bounds + first_row), gl.load(row_bounds + height + last_row)
    begin = gl.load(column_bounds + first // frames) * frames
    middle = gl.load(column_bounds + last // frames) * frames
    middle_end = gl.load(column_bounds + width + first // frames) * frames
    end = gl.load(column_bounds + width + last // frames) * frames
    first_whole = (middle - begin + KEYS - 1) // KEYS
    whole = gl.maximum((middle_end - begin) // KEYS - first_whole, 0)
    return Blocks(top, bottom, begin, (end - begin + KEYS - 1) // KEYS, whole, first_whole)


@aggregate
class Ring:
    """Tiles of shared memory that one warp fills and both warpgroups read; block i lies in tile i % STAGES."""

    tiles: gl.shared_memory_descriptor
    ready: gl.shared_memory_descriptor
    free: gl.shared_memory_descriptor
    STAGES: gl.constexpr

    @gluon.constexpr_function
    def __init__(self, tiles, ready, free, STAGES):
        self.tiles = tiles
        self.ready = ready
        self.free = free
        self.STAGES = gl.constexpr(STAGES)

    @gluon.jit
    def fill(self, i, source, place, channel):
        stage = i % self.STAGES
        # The first time round the ring this does not wait: of a new barrier, the phase before the first is over.
        mbarrier.wait(self.free.index(stage), ((i // self.STAGES) & 1) ^ 1)
        mbarrier.expect(self.ready.index(stage), source.block_type.nbytes)
        _copy_in(source, [place, channel], self.ready.index(stage), self.tiles.index(stage))

    @gluon.jit
    def wait(self, i):
        mbarrier.wait(self.ready.index(i % self.STAGES), (i // self.STAGES) & 1)

    @gluon.jit
    def tile(self, i):
        return self.tiles.index(i % self.STAGES)

    @gluon.jit
    def release(self, i):
        mbarrier.arrive(self.free.index(i % self.STAGES))


@gluon.jit
def _ring(dtype: gl.constexpr, KEYS: gl.constexpr, DIM: gl.constexpr, TILE: gl.constexpr, STAGES: gl.constexpr):
    tiles = gl.allocate_shared_memory(dtype, [STAGES, KEYS, DIM], TILE)
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)  # the copying warp's, and then the bytes
        mbarrier.init(free.index(stage), count=2)  # both warpgroups'
    return Ring(tiles, ready, free, STAGES)


@gluon.jit
def _produce(blocks, k, v, key_ring, value_ring, origin, length, channel, KEYS: gl.constexpr):
    """Copies in the order in which `_consume` asks: the keys of block 0; of block 1; the values of block 0; ..."""
    i = origin * 0
    last = origin
    for row in range(blocks.top, blocks.bottom):
        for j in range(blocks.every):
            place = origin + row * length + blocks.place(j, KEYS)
            key_ring.fill(i, k, place, channel)
            if i > 0:
                value_ring.fill(i - 1, v, last, channel)
            last = place
            i += 1
    value_ring.fill(i - 1, v, last, channel)


@gluon.jit
def _pass_over(start, stop, key_ring, value_ring):
    for i in range(start, stop):
        # Not before they are filled: the last round's releases may not be complete.
        key_ring.wait(i)
        key_ring.release(i)
        value_ring.wait(i)
        value_ring.release(i)


@gluon.jit
def _masked(logits, place, left, right, KEYS: gl.constexpr):
    lane = gl.arange(0, KEYS, gl.SliceLayout(0, logits.type.layout))
    seen = (lane[None, :] >= (left - place)[:, None]) & (lane[None, :] < (right - place)[:, None])
    return gl.where(seen, logits, float("-inf"))


@gluon.jit
def _softmax(logits, in_row, most, total, scale):
    """Weights of a block, 0 for queries that do not see its row; the new maximum and sum; what is to shrink by what."""
    new = gl.where(in_row, gl.maximum(most, gl.max(logits, 1) * scale), most)
    weights = gl.exp2(logits * scale - gl.where(in_row, new, float("inf"))[:, None])
    shrink = gl.exp2(most - new)
    return weights, new, total * shrink + gl.sum(weights, 1), shrink


@gluon.jit
def _step(
    i, queries, key_ring, value_ring, finished, place, in_row, left, right, weights, most, total, mixed, scale,
    KEYS: gl.constexpr, MASKED: gl.constexpr,
):  # fmt: skip
    """Adds the values of block i - 1 under `weights`, and returns the weights of block i."""
    LOGITS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS, 16])
    key_ring.wait(i)
    logits = gl.zeros([_HALF, KEYS], gl.float32, LOGITS)
    logits = warpgroup_mma(queries, key_ring.tile(i).permute((1, 0)), logits, use_acc=False, is_async=True)
    value_ring.wait(i - 1)
    mixed = warpgroup_mma(weights, value_ring.tile(i - 1), mixed, is_async=True)
    logits = warpgroup_mma_wait(1, deps=[logits])
    if MASKED:
        logits = _masked(logits, place, left, right, KEYS)
    new_weights, most, total, shrink = _softmax(logits, in_row, most, total, scale)
    new_weights = gl.convert_layout(new_weights.to(value_ring.tiles.dtype), weights.type.layout)
    # ptxas would wait for the product first and take the softmax later. This store needs the softmax, and cannot pass
    # the barrier in front of the release, nor can the wait.
    finished.store(total)
    key_ring.release(i)
    # The product reads `weights` until here.
    mixed, weights, new_weights = warpgroup_mma_wait(0, deps=[mixed, weights, new_weights])
    value_ring.release(i - 1)
    shrink = gl.convert_layout(shrink, gl.SliceLayout(1, mixed.type.layout))
    return new_weights, most, total, mixed * shrink[:, None]


@gluon.jit
def _consume(
    blocks, q_tiles, key_ring, value_ring, finished, out, sums, row_bounds, column_bounds,
    head, heads, frames, height, width, first_row, first, scale,
    ROWS: gl.constexpr, SPAN: gl.constexpr, DIM: gl.constexpr, KEYS: gl.constexpr, SUMS: gl.constexpr,
    HALF: gl.constexpr,
):  # fmt: skip
    LOGITS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS, 16])
    MIXED: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DIM, 16])
    WEIGHTS: gl.constexpr = gl.DotOperandLayout(0, MIXED, 2)
    queries = q_tiles.index(HALF)
    finished = finished.index(HALF)

    # Each query's window, in rows and in places; of a query outside the grid it is empty.
    query_row, query_place, inside, _ = _queries(
        HALF, gl.SliceLayout(1, LOGITS), frames, height, width, first_row, first, ROWS, SPAN
    )
    top = gl.load(row_bounds + query_row, mask=inside, other=0)
    bottom = gl.load(row_bounds + height + query_row, mask=inside, other=0)
    left = gl.load(column_bounds + query_place // frames, mask=inside, other=0) * frames
    right = gl.load(column_bounds + width + query_place // frames, mask=inside, other=0) * frames

    # The upper half does not see the last rows, nor the lower half the first.
    own_top, own_bottom = blocks.top, blocks.bottom
    if ROWS > 1:
        if HALF == 0:
            own_bottom = gl.load(row_bounds + height + gl.minimum(first_row + ROWS // 2, height) - 1)
        else:
            own_top = gl.load(row_bounds + gl.minimum(first_row + ROWS // 2, height - 1))
    start, stop = (own_top - blocks.top) * blocks.every, (own_bottom - blocks.top) * blocks.every
    _pass_over(0, start, key_ring, value_ring)

    # The first block, under a mask even if it needs none.
    key_ring.wait(start)
    logits = gl.zeros([_HALF, KEYS], gl.float32, LOGITS)
    logits = warpgroup_mma(queries, key_ring.tile(start).permute((1, 0)), logits, use_acc=False, is_async=True)
    logits = warpgroup_mma_wait(0, deps=[logits])
    key_ring.release(start)
    logits = _masked(logits, blocks.place(0, KEYS), left, right, KEYS)
    most = gl.full([_HALF], -1e30, gl.float32, gl.SliceLayout(1, LOGITS))  # finite: a block may be seen by none
    total = gl.zeros([_HALF], gl.float32, gl.SliceLayout(1, LOGITS))
    weights, most, total, _ = _softmax(logits, (top <= own_top) & (own_top < bottom), most, total, scale)
    weights = gl.convert_layout(weights.to(value_ring.tiles.dtype), WEIGHTS)
    mixed = gl.zeros([_HALF, DIM], gl.float32, MIXED)

    i = start + 1
    for row in range(own_top, own_bottom):
        done = gl.where(row == own_top, 1, 0)
        in_row = (top <= row) & (row < bottom)
        for j in range(done, blocks.whole):
            weights, most, total, mixed = _step(
                i, queries, key_ring, value_ring, finished, j, in_row, left, right,
                weights, most, total, mixed, scale, KEYS, False,
            )  # fmt: skip
            i += 1
        for j in range(gl.maximum(done, blocks.whole), blocks.every):
            weights, most, total, mixed = _step(
                i, queries, key_ring, value_ring, finished, blocks.place(j, KEYS), in_row, left, right,
                weights, most, total, mixed, scale, KEYS, True,
            )  # fmt: skip
            i += 1

    value_ring.wait(stop - 1)
    mixed = warpgroup_mma(weights, value_ring.tile(stop - 1), mixed, is_async=True)
    mixed, weights = warpgroup_mma_wait(0, deps=[mixed, weights])
    value_ring.release(stop - 1)
    _pass_over(stop, (blocks.bottom - blocks.top) * blocks.every, key_ring, value_ring)

    mixed = mixed / gl.convert_layout(total, gl.SliceLayout(1, MIXED))[:, None]
    if SUMS:
        _, _, inside, token = _queries(
            HALF, gl.SliceLayout(1, LOGITS), frames, height, width, first_row, first, ROWS, SPAN
        )
        gl.store(sums + head + token * heads, (most + gl.log2(total)) * 0.6931471805599453, mask=inside)
    # Through shared memory, so that whole tokens are written. This warpgroup has read its queries for the last time.
    queries.store(mixed.to(out.dtype.element_ty))
    TOKENS: gl.constexpr = gl.BlockedLayout([1, 8], [256 // DIM, DIM // 8], [4, 1], [1, 0])
    tile = queries.load(TOKENS)
    _, _, inside, token = _queries(HALF, gl.SliceLayout(1, TOKENS), frames, height, width, first_row, first, ROWS, SPAN)
    channel = gl.arange(0, DIM, gl.SliceLayout(0, TOKENS))
    gl.store(out + (head + token * heads)[:, None] * DIM + channel[None, :], tile, mask=inside[:, None])


@gluon.jit
def _queries(
    HALF: gl.constexpr, LAYOUT: gl.constexpr, frames, height, width, first_row, first,
    ROWS: gl.constexpr, SPAN: gl.constexpr,
):  # fmt: skip
    """Row, place, whether inside the grid, and token of each query of a warpgroup."""
    query = gl.arange(0, _HALF, LAYOUT) + HALF * _HALF
    row, place = first_row + query // SPAN, first + query % SPAN
    inside = (row < height) & (place < width * frames)
    token = ((place % frames) * height + row) * width + place // frames
    return row, place, inside, token.to(gl.int64)


@gluon.jit(do_not_specialize=["heads", "frames", "height", "width"])
def attend_in_windows(
    q, k, v, out, sums, row_bounds, column_bounds, heads, frames, height, width, scale,
    ROWS: gl.constexpr, SPAN: gl.constexpr, DIM: gl.constexpr, KEYS: gl.constexpr, STAGES: gl.constexpr,
    SUMS: gl.constexpr,
):  # fmt: skip
    """As the kernel of `any_gpu_kernel`; but `k` and `v` are TMA descriptors of (B * H * W * T, heads * DIM), in blocks
    of (KEYS, DIM)."""
    length = width * frames
    spans = (length + SPAN - 1) // SPAN
    first_row, first = gl.program_id(0) // spans * ROWS, gl.program_id(0) % spans * SPAN
    last_row, last = gl.minimum(first_row + ROWS, height) - 1, gl.minimum(first + SPAN, length) - 1
    head = gl.program_id(2).to(gl.int64) * height * length * heads + gl.program_id(1)

    dtype: gl.constexpr = q.dtype.element_ty
    TILE: gl.constexpr = k.layout
    key_ring = _ring(dtype, KEYS, DIM, TILE, STAGES)
    value_ring = _ring(dtype, KEYS, DIM, TILE, STAGES)
    q_tiles = gl.allocate_shared_memory(dtype, [2, _HALF, DIM], TILE)
    finished = gl.allocate_shared_memory(gl.float32, [2, _HALF], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    TOKENS: gl.constexpr = gl.BlockedLayout([1, 8], [256 // DIM, DIM // 8], [4, 1], [1, 0])
    for half in gl.static_range(2):
        _, _, inside, token = _queries(
            half, gl.SliceLayout(1, TOKENS), frames, height, width, first_row, first, ROWS, SPAN
        )
        channel = gl.arange(0, DIM, gl.SliceLayout(0, TOKENS))
        pointers = q + (head + token * heads)[:, None] * DIM + channel[None, :]
        q_tiles.index(half).store(gl.load(pointers, mask=inside[:, None], other=0.0))
    fence_async_shared()  # wgmma reads the queries, TMA uses the barriers

    blocks = _blocks_of(row_bounds, column_bounds, frames, height, width, first_row, last_row, first, last, KEYS)
    # Spelt out twice: constants don't stay constant in tuples that are put together.
    gl.warp_specialize(
        [
            (_consume, (
                blocks, q_tiles, key_ring, value_ring, finished, out, sums, row_bounds, column_bounds,
                head, heads, frames, height, width, first_row, first, scale, ROWS, SPAN, DIM, KEYS, SUMS, 0,
            )),
            (_consume, (
                blocks, q_tiles, key_ring, value_ring, finished, out, sums, row_bounds, column_bounds,
                head, heads, frames, height, width, first_row, first, scale, ROWS, SPAN, DIM, KEYS, SUMS, 1,
            )),
            (_produce, (
                blocks, k, v, key_ring, value_ring, gl.program_id(2) * height * length, length,
                gl.program_id(1) * DIM, KEYS,
            )),
        ],
        [4, 1],  # warps of the second warpgroup and of the copying warp
        [240, 24],  # and their registers; the first warpgroup has those that are left
    )  # fmt: skip
