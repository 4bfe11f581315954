"""The kernel of `freeswim.attention.exact` for any GPU that Triton knows. Needs Triton.

A program handles one head of a block of queries: ROWS rows of the grid by SPAN neighbours, the tokens of a row being
counted column by column and in each column frame by frame ("places"). Keys and values lie in that order, so that what a
query sees of a row, some columns in all frames, is one run of places.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["heads", "frames", "height", "width"])
def attend_in_windows(  # type: ignore[no-untyped-def]
    q, k, v, out, sums, row_bounds, column_bounds, heads, frames, height, width, scale,
    ROWS: tl.constexpr, SPAN: tl.constexpr, DIM: tl.constexpr, KEYS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    length = width * frames
    spans = tl.cdiv(length, SPAN)
    first_row, first = tl.program_id(0) // spans * ROWS, tl.program_id(0) % spans * SPAN
    last_row, last = tl.minimum(first_row + ROWS, height) - 1, tl.minimum(first + SPAN, length) - 1
    head = (tl.program_id(2).to(tl.int64) * height * length) * heads + tl.program_id(1)

    query = tl.arange(0, ROWS * SPAN)
    row, place = first_row + query // SPAN, first + query % SPAN
    inside = (row < height) & (place < length)
    token = ((place % frames) * height + row) * width + place // frames
    token = head + token.to(tl.int64) * heads
    channel = tl.arange(0, DIM)
    queries = tl.load(q + token[:, None] * DIM + channel[None, :], mask=inside[:, None], other=0.0)

    # Each query's window, in rows and in places; of a query outside the grid it is empty.
    top = tl.load(row_bounds + row, mask=inside, other=0)
    bottom = tl.load(row_bounds + height + row, mask=inside, other=0)
    left = tl.load(column_bounds + place // frames, mask=inside, other=0) * frames
    right = tl.load(column_bounds + width + place // frames, mask=inside, other=0) * frames
    # The block's: keys before `middle` and behind it are seen by some of the queries, `middle` by all. Windows never
    # move backwards along an axis.
    begin = tl.load(column_bounds + first // frames) * frames
    middle = tl.load(column_bounds + last // frames) * frames
    middle_end = tl.load(column_bounds + width + first // frames) * frames
    end = tl.load(column_bounds + width + last // frames) * frames
    outer_top, inner_top = tl.load(row_bounds + first_row), tl.load(row_bounds + last_row)
    inner_bottom, outer_bottom = tl.load(row_bounds + height + first_row), tl.load(row_bounds + height + last_row)
    inner_rows = tl.maximum(inner_bottom - inner_top, 0)
    above = tl.where(inner_rows > 0, inner_top - outer_top, outer_bottom - outer_top)
    outer_rows = outer_bottom - outer_top - inner_rows
    whole = tl.where(inner_rows > 0, tl.maximum(middle_end - middle, 0) // KEYS, 0)  # blocks of keys seen by all

    most = tl.full([ROWS * SPAN], -1e30, tl.float32)  # finite: the first keys may be seen by none of a query
    total = tl.zeros([ROWS * SPAN], tl.float32)
    mixed = tl.zeros([ROWS * SPAN, DIM], tl.float32)
    lane = tl.arange(0, KEYS)
    for i in range(inner_rows * whole):
        n = (inner_top + i // whole) * length + middle + i % whole * KEYS + lane
        key = (head + n.to(tl.int64) * heads)[:, None] * DIM + channel[None, :]
        logits = tl.dot(queries, tl.trans(tl.load(k + key)))
        new = tl.maximum(most, tl.max(logits, 1) * scale)
        weights = tl.exp2(logits * scale - new[:, None])
        shrink = tl.exp2(most - new)
        total = total * shrink + tl.sum(weights, 1)
        mixed = tl.dot(weights.to(v.dtype.element_ty), tl.load(v + key), mixed * shrink[:, None])
        most = new

    # The rest under masks: of inner rows what lies before and behind the whole blocks, in one run; outer rows whole.
    edges = tl.cdiv(end - begin - whole * KEYS, KEYS)
    every = tl.cdiv(end - begin, KEYS)
    for i in range(inner_rows * edges + outer_rows * every):
        is_inner = i < inner_rows * edges
        j = tl.where(is_inner, i, i - inner_rows * edges)
        parts = tl.where(is_inner, edges, every)
        line, part = j // parts, j % parts
        outer_row = tl.where(line < above, outer_top + line, inner_bottom + line - above)
        y = tl.where(is_inner, inner_top + line, outer_row)
        x = begin + part * KEYS + lane
        x = tl.where(is_inner & (x >= middle), x + whole * KEYS, x)
        there = x < end
        key = (head + (y * length + x).to(tl.int64) * heads)[:, None] * DIM + channel[None, :]
        logits = tl.dot(queries, tl.trans(tl.load(k + key, mask=there[:, None], other=0.0)))
        in_row = (y >= top) & (y < bottom)
        start, stop = tl.where(in_row, left, end), tl.where(in_row, right, begin)
        logits = tl.where((x[None, :] >= start[:, None]) & (x[None, :] < stop[:, None]), logits, float("-inf"))
        new = tl.maximum(most, tl.max(logits, 1) * scale)
        weights = tl.exp2(logits * scale - new[:, None])
        shrink = tl.exp2(most - new)
        total = total * shrink + tl.sum(weights, 1)
        values = tl.load(v + key, mask=there[:, None], other=0.0)
        mixed = tl.dot(weights.to(v.dtype.element_ty), values, mixed * shrink[:, None])
        most = new

    mixed = mixed / total[:, None]
    tl.store(out + token[:, None] * DIM + channel[None, :], mixed.to(out.dtype.element_ty), mask=inside[:, None])
    if SUMS:
        tl.store(sums + token, (most + tl.log2(total)) * 0.6931471805599453, mask=inside)
