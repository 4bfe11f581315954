"""Runs the kernel for Hopper GPUs on the CPU: its own source, on stand-ins for the parts of Gluon that it uses.

Values are torch tensors, and the parts that warps play are threads. Barriers count arrivals in phases, as on a GPU, and
a thread that waits for one in vain fails. What is asynchronous within a warp (products, copies) happens at once.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from threading import Condition, Thread
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

KEYS = 16
_PATIENCE = 20.0  # seconds
_SOURCE = Path(__file__).parents[1] / "freeswim/attention/hopper_kernel.py"


class Value(torch.Tensor):
    """A tensor of Gluon's, which says its layout: there is none here."""

    @property
    def type(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(layout=None)


def value(x: Any) -> Value:
    return torch.as_tensor(x).as_subclass(Value)


class Pointer:
    """An address in a tensor's memory, or many."""

    def __init__(self, memory: torch.Tensor, offset: Any = 0) -> None:
        self.memory, self.offset = memory.view(-1), offset
        self.dtype = SimpleNamespace(element_ty=memory.dtype)

    def __add__(self, step: Any) -> "Pointer":
        return Pointer(self.memory, self.offset + step)

    def __sub__(self, step: Any) -> "Pointer":
        return Pointer(self.memory, self.offset - step)

    def load(self, mask: Any = None, other: float = 0) -> Value:
        offset = torch.as_tensor(self.offset)
        seen = torch.ones_like(offset, dtype=torch.bool) if mask is None else mask.expand(offset.shape)
        assert bool(((offset >= 0) & (offset < len(self.memory)))[seen].all()), "reads outside of the memory"
        return value(torch.where(seen, self.memory[torch.where(seen, offset, 0)], other).to(self.memory.dtype))

    def store(self, x: torch.Tensor, mask: torch.Tensor) -> None:
        seen = mask.expand(self.offset.shape)
        self.memory[self.offset[seen]] = x[seen]


class Barrier:
    """Counts arrivals; after the last one of a phase the next phase begins."""

    def __init__(self) -> None:
        self.phase, self.count, self.missing = 0, 0, 0
        self.changed = Condition()

    def init(self, count: int) -> None:
        self.count = self.missing = count

    def arrive(self) -> None:
        with self.changed:
            self.missing -= 1
            assert self.missing >= 0
            if not self.missing:
                self.phase, self.missing = self.phase + 1, self.count
                self.changed.notify_all()

    def wait(self, parity: Any) -> None:
        """Until the phase of that parity is over; of a new barrier, the one before the first is."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.phase % 2 != int(parity), _PATIENCE), "a barrier is stuck"


class Tile:
    """A matrix in shared memory, or a barrier."""

    def __init__(self) -> None:
        self.data = torch.empty(0)
        self.barrier = Barrier()

    def store(self, x: torch.Tensor) -> None:
        self.data = x

    def load(self, layout: None) -> Value:
        return value(self.data)

    def permute(self, order: Sequence[int]) -> torch.Tensor:
        return self.data.permute(*order)


class Shared:
    """An array of them."""

    def __init__(self, dtype: torch.dtype, shape: Sequence[int], layout: None) -> None:
        self.dtype = dtype
        self.tiles = [Tile() for _ in range(shape[0])]

    def index(self, i: int) -> Tile:
        return self.tiles[i]


class Descriptor:
    """A matrix that TMA copies blocks of."""

    def __init__(self, matrix: torch.Tensor, block: tuple[int, int]) -> None:
        self.matrix, self.block = matrix, block
        self.layout, self.block_type = None, SimpleNamespace(nbytes=0)


def copy_in(source: Descriptor, place: Sequence[Any], barrier: Tile, target: Tile) -> None:
    row, column = (int(x) for x in place)
    rows, columns = source.block
    block = source.matrix[row : row + rows, column : column + columns]
    target.store(torch.nn.functional.pad(block, (0, 0, 0, rows - len(block))))  # zeros past the end
    barrier.barrier.arrive()


def multiply(a: Any, b: Any, acc: torch.Tensor, use_acc: bool = True, is_async: bool = False) -> Value:
    left, right = (x.data if isinstance(x, Tile) else x for x in (a, b))
    return value(left @ right + (acc if use_acc else 0))


def where(condition: Any, a: Any, b: Any) -> Value:
    return value(torch.where(torch.as_tensor(condition), a, b))


def decorator(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    return function if function is not None else lambda f: f


@contextmanager
def stand_ins(program: list[int]) -> Iterator[None]:
    """Gluon's modules, as far as the kernel uses them. `program`: the indices of the program that runs."""

    def run_at_once(roles: Sequence[tuple[Callable[..., None], tuple[Any, ...]]], *sizes: Any) -> None:
        failed: list[BaseException] = []

        def guarded(role: Callable[..., None], arguments: tuple[Any, ...]) -> None:
            try:
                role(*arguments)
            except BaseException as error:
                failed.append(error)

        threads = [Thread(target=guarded, args=role) for role in roles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    def nothing(*arguments: Any, **options: Any) -> None:
        return None

    layouts = ("NVMMADistributedLayout", "DotOperandLayout", "SliceLayout", "BlockedLayout", "SwizzledSharedLayout")
    gl: Any = ModuleType("language")
    gl.__dict__.update(
        dict.fromkeys(layouts, nothing), constexpr=lambda x: x, tensor=Value, shared_memory_descriptor=Shared,
        float32=torch.float32, int64=torch.int64, static_range=range, where=where, allocate_shared_memory=Shared,
        program_id=lambda axis: value(program[axis]), load=Pointer.load, store=lambda p, x, mask: p.store(x, mask),
        arange=lambda start, stop, layout: value(torch.arange(start, stop)),
        minimum=lambda a, b: torch.minimum(value(a), value(b)), maximum=lambda a, b: torch.maximum(value(a), value(b)),
        zeros=lambda shape, dtype, layout: value(torch.zeros(shape)),
        full=lambda shape, x, dtype, layout: value(torch.full(shape, x)),
        max=lambda x, axis: x.amax(axis), sum=lambda x, axis: x.sum(axis), exp2=torch.exp2, log2=torch.log2,
        convert_layout=lambda x, layout: x, warp_specialize=run_at_once,
    )  # fmt: skip
    gluon: Any = ModuleType("gluon")
    gluon.jit, gluon.constexpr_function, gluon.language = decorator, decorator, gl
    barrier = SimpleNamespace(
        init=lambda tile, count: tile.barrier.init(count),
        wait=lambda tile, parity: tile.barrier.wait(parity),
        arrive=lambda tile: tile.barrier.arrive(),
        expect=nothing,  # the copy itself arrives, with its bytes
        MBarrierLayout=nothing,
    )
    hopper: Any = ModuleType("hopper")
    hopper.fence_async_shared, hopper.warpgroup_mma = nothing, multiply
    hopper.mbarrier, hopper.tma = barrier, SimpleNamespace(async_load=copy_in)
    hopper.warpgroup_mma_wait = lambda count, deps: deps[0] if len(deps) == 1 else tuple(deps)
    core: Any = ModuleType("core")
    core._aggregate = decorator
    experimental: Any = ModuleType("experimental")
    experimental.gluon = gluon
    modules = {
        "triton.experimental": experimental,
        "triton.experimental.gluon": gluon,
        "triton.experimental.gluon.language": gl,
        "triton.experimental.gluon.language.nvidia": ModuleType("nvidia"),
        "triton.experimental.gluon.language.nvidia.hopper": hopper,
        "triton.language.core": core,
    }
    with patch.dict(sys.modules, modules):
        yield


def launch(
    programs: tuple[int, int, int], q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *rest: Any,
    **constants: Any,
) -> None:  # fmt: skip
    """As `freeswim.attention.hopper.launch`, in blocks of KEYS keys, for any precision and head."""
    heads, dim = q.shape[2:]
    program = [0, 0, 0]
    with stand_ins(program):
        spec = importlib.util.spec_from_file_location("hopper_kernel_on_cpu", _SOURCE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        k, v = (Descriptor(x.reshape(-1, heads * dim), (KEYS, dim)) for x in (keys, values))
        arguments = [Pointer(x) if isinstance(x, torch.Tensor) else x for x in (q, k, v, *rest)]
        for program[:] in product(*map(range, programs)):
            module.attend_in_windows(*arguments, **constants, KEYS=KEYS, STAGES=2)
