"""The Triton kernels behind `freeswim.fused`, which says what they compute. Needs Triton.

Each program of a grid handles one token, or a few; values are float32 inside.
"""

import triton
import triton.language as tl

# Lengths differ from size to size: code specialised to them (to multiples of 16, say) would be built for each anew.


@triton.jit(do_not_specialize=["length"])
def add_and_norm(  # type: ignore[no-untyped-def]
    x, y, gate, gate_step, scale, scale_step, shift, shift_step, normed, length, channels, eps,
    ADDS: tl.constexpr, GATED: tl.constexpr, NORMS: tl.constexpr, MODULATED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < channels
    batch = row // length
    value = tl.load(x + row * channels + column, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        added = tl.load(y + row * channels + column, mask=inside, other=0.0).to(tl.float32)
        if GATED:
            added *= tl.load(gate + batch * gate_step + column, mask=inside, other=0.0)
        rounded = (value + added).to(x.dtype.element_ty)
        tl.store(x + row * channels + column, rounded, mask=inside)
        value = rounded.to(tl.float32)
    if NORMS:
        mean = tl.sum(value, 0) / channels
        centred = tl.where(inside, value - mean, 0.0)
        variance = tl.sum(centred * centred, 0) / channels
        factor = tl.load(scale + batch * scale_step + column, mask=inside, other=0.0).to(tl.float32)
        offset = tl.load(shift + batch * shift_step + column, mask=inside, other=0.0).to(tl.float32)
        if MODULATED:
            factor += 1.0
        result = centred * tl.rsqrt(variance + eps) * factor + offset
        tl.store(normed + row * channels + column, result.to(normed.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["length"])
def norm_and_rotate(  # type: ignore[no-untyped-def]
    x, weight, cos, sin, out, length, heads, eps,
    NORMS: tl.constexpr, ROTATES: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    # Loaded flat, so that each thread reads neighbours; pairs are split from registers.
    row = tl.program_id(0).to(tl.int64)
    token = row % length
    channels = heads * (2 * HALF)
    column = tl.arange(0, HEADS * HALF * 2)
    inside = column < channels
    value = tl.load(x + row * channels + column, mask=inside, other=0.0).to(tl.float32)
    if NORMS:
        value *= tl.rsqrt(tl.sum(value * value, 0) / channels + eps)
        value *= tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
        value = value.to(x.dtype.element_ty).to(tl.float32)
    if ROTATES:
        even, odd = tl.split(tl.reshape(value, (HEADS, HALF, 2)))
        pair = 2 * tl.arange(0, HALF)
        cosine = tl.load(cos + token * (2 * HALF) + pair)[None, :].to(tl.float32)
        sine = tl.load(sin + token * (2 * HALF) + pair + 1)[None, :].to(tl.float32)
        turned = tl.join(even * cosine - odd * sine, even * sine + odd * cosine)
        value = tl.reshape(turned, (HEADS * HALF * 2,))
    tl.store(out + row * channels + column, value.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["count", "n1", "n2", "n3", "n4"])
def copy_rows(  # type: ignore[no-untyped-def]
    source, target, count, n1, n2, n3, n4, s0, s1, s2, s3, s4, t0, t1, t2, t3, t4,
    ROWS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    # Tokens are counted in 32 bits, whose divisions are quick, and values in 64.
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < count)[:, None]
    i4, rest = (row % n4).to(tl.int64), row // n4
    i3, rest = (rest % n3).to(tl.int64), rest // n3
    i2, rest = (rest % n2).to(tl.int64), rest // n2
    i1, i0 = (rest % n1).to(tl.int64), (rest // n1).to(tl.int64)
    column = (tl.program_id(1) * CHUNK + tl.arange(0, CHUNK))[None, :]
    read = (i0 * s0 + i1 * s1 + i2 * s2 + i3 * s3 + i4 * s4)[:, None] + column
    write = (i0 * t0 + i1 * t1 + i2 * t2 + i3 * t3 + i4 * t4)[:, None] + column
    tl.store(target + write, tl.load(source + read, mask=inside), mask=inside)


@triton.jit(do_not_specialize=["count", "height", "width", "new_height", "new_width"])
def resize(  # type: ignore[no-untyped-def]
    x, out, count, channels, height, width, new_height, new_width, y_scale, x_scale,
    ROWS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < count)[:, None]
    column = (tl.program_id(1) * CHUNK + tl.arange(0, CHUNK))[None, :]
    plane = row // (new_height * new_width)
    at_y = tl.maximum(((row // new_width) % new_height + 0.5) * y_scale - 0.5, 0.0)
    at_x = tl.maximum((row % new_width + 0.5) * x_scale - 0.5, 0.0)
    top, left = at_y.to(tl.int32), at_x.to(tl.int32)
    down, right = (at_y - top).to(tl.float32)[:, None], (at_x - left).to(tl.float32)[:, None]
    bottom, far = tl.minimum(top + 1, height - 1), tl.minimum(left + 1, width - 1)
    upper, lower = (plane * height + top) * width, (plane * height + bottom) * width
    channels = channels.to(tl.int64)
    a = tl.load(x + ((upper + left) * channels)[:, None] + column, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x + ((upper + far) * channels)[:, None] + column, mask=inside, other=0.0).to(tl.float32)
    c = tl.load(x + ((lower + left) * channels)[:, None] + column, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(x + ((lower + far) * channels)[:, None] + column, mask=inside, other=0.0).to(tl.float32)
    result = (1 - down) * ((1 - right) * a + right * b) + down * ((1 - right) * c + right * d)
    tl.store(out + (row * channels)[:, None] + column, result.to(out.dtype.element_ty), mask=inside)
