"""Compiles the kernel for Hopper GPUs, where there may be none: python -m tests.compile_for_hopper

The last line printed is JSON, with what stands in the compiled code.
"""

import json
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

from freeswim.attention import hopper, hopper_kernel


class Hopper:
    """Stands for Triton's driver, which would ask a GPU."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

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
            self.found.append(counts | {"shared_memory": made.metadata.shared})

        return compile_only


def main() -> None:
    triton.runtime.driver.set_active(Hopper())
    compiled = Compiled(hopper_kernel.attend_in_windows)
    setattr(hopper_kernel, "attend_in_windows", compiled)  # noqa: B010 - it is typed as a function
    tokens = torch.zeros(1, 128, 2, 128, dtype=torch.bfloat16)
    bounds = torch.zeros(2, 8, dtype=torch.int32)
    for sums in (None, torch.zeros(1, 128, 2)):
        hopper.attend(tokens, tokens, tokens, tokens, sums, bounds, bounds, grid=(2, 8, 8), block_rows=4, scale=0.1)
    print(json.dumps(compiled.found))


if __name__ == "__main__":
    main()
