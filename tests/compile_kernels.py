"""Compiles the window kernels for GPUs that need not be there: python -m tests.compile_kernels

The last line printed is JSON, with what stands in the compiled code.
"""

import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget

from freeswim.attention import any_gpu, any_gpu_kernel, exact, hopper_kernel
from freeswim.windows import axis_segments

# KiB of shared memory that a block may have, by compute capability: the CUDA programming guide's table. A data centre's
# Ampere, consumers' Ampere, Ada and Blackwell, and a data centre's Blackwell.
SHARED = {80: 163, 86: 99, 89: 99, 120: 99, 100: 227}
HOPPER = 90


class Gpu:
    """Stands for Triton's driver, which would ask a GPU."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


class Compiled:
    """Stands for the kernel, compiles it for the arguments of a launch, and launches nothing."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.found: list[dict[str, int]] = []

    def __getitem__(self, programs: Any) -> Any:
        def compile_only(*arguments: Any, **options: Any) -> None:
            made = self.kernel.warmup(*arguments, grid=programs, **options)
            code = made.asm["ptx"]
            counts = {name: code.count(name) for name in ("wgmma", "setmaxnreg")}
            self.found.append(counts | {"shared_memory": made.metadata.shared, "arch": made.metadata.target.arch})

        return compile_only


def compiled(module: Any, kernel: exact.Kernel, capability: int) -> list[dict[str, int]]:
    """What is in the code of a kernel without sums and with them."""
    triton.runtime.driver.set_active(Gpu(capability))
    module.attend_in_windows.device_caches.clear()  # it would go on compiling for the last capability
    instead = Compiled(module.attend_in_windows)
    tokens, axis = torch.zeros(1, 128, 2, 128, dtype=torch.bfloat16), axis_segments(8, 5)
    with patch.object(module, "attend_in_windows", instead):
        for wants_sum in (False, True):
            exact.exact_attention(
                tokens, tokens, tokens, frames=2, rows=axis, columns=axis, scale=0.1, kernel=kernel, wants_sum=wants_sum
            )
    return instead.found


def for_any_gpu(capability: int) -> list[dict[str, int]]:
    """With the stages that there is room for on GPUs of a capability."""
    gpu = SimpleNamespace(shared_memory_per_block_optin=SHARED[capability] << 10, shared_memory_per_block=48 << 10)
    with patch("torch.cuda.get_device_properties", lambda device: gpu):
        any_gpu._stages.cache_clear()
        stages = any_gpu._stages(torch.device("cuda", 0), 128)
    with patch.object(any_gpu, "_stages", lambda device, dim: stages):
        return compiled(any_gpu_kernel, exact.ANY_GPU, capability)


def main() -> None:
    found = {"hopper": compiled(hopper_kernel, exact.HOPPER, HOPPER)}
    print(json.dumps(found | {str(capability): for_any_gpu(capability) for capability in SHARED}))


if __name__ == "__main__":
    main()
