"""Muon for matrices and convolution kernels, AdamW for the rest, one linear schedule, and an average of the weights."""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import nn


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by a Newton-Schulz iteration (Jordan et al., 2024).

    `torch.optim.Muon` takes 2-D parameters only and works on one at a time. Here a convolution kernel counts as the
    matrix (out, in * k), and matrices of one shape go through the iteration as a batch. The update is scaled by
    0.2 * sqrt(max(rows, columns)), so that its root mean square, and so the learning rate, is that of AdamW
    (Liu et al., arXiv 2502.16982).
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; a `closure` that computes the loss anew is called first, as `torch.optim` has it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for same in by_shape.values():
                grads, buffers = [p.grad for p in same], [self._buffer(p) for p in same]
                torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
                nesterov = torch._foreach_lerp(grads, buffers, group["momentum"])
                updates = _orthogonalise(torch.stack([g.flatten(1) for g in nesterov]))
                scale = 0.2 * max(updates.shape[1:]) ** 0.5
                torch._foreach_mul_(same, 1 - group["lr"] * group["weight_decay"])
                steps = [u.view_as(p).to(p.dtype) for u, p in zip(updates.unbind(0), same, strict=True)]
                torch._foreach_add_(same, steps, alpha=-group["lr"] * scale)
        return loss

    def _buffer(self, p: nn.Parameter) -> torch.Tensor:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        return state["momentum"]


def _orthogonalise(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearest semi-orthogonal matrices of a batch (N, rows, columns), roughly: singular values end near 1."""
    x = matrices.to(torch.bfloat16)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


class Trainer:
    """Two optimisers under one schedule: `progress` 0..1 ramps up over `warmup`, then goes down to zero in a line."""

    def __init__(self, modules: list[nn.Module], *, lr: float, edge: tuple[str, ...], warmup: float = 0.02) -> None:
        """`edge`: names of layers at the ends of the network (embeddings, heads), which Muon does not suit."""
        inner: list[nn.Parameter] = []
        outer: list[nn.Parameter] = []
        for module in modules:
            for name, p in module.named_parameters():
                is_matrix = p.ndim >= 2 and min(p.flatten(1).shape) > 8
                (inner if is_matrix and not any(e in name for e in edge) else outer).append(p)
        self.params = [*inner, *outer]
        self.optimisers = [
            Muon(inner, lr=lr),
            torch.optim.AdamW(outer, lr=lr / 2, betas=(0.9, 0.98), weight_decay=0.0, fused=outer[0].is_cuda),
        ]
        self.warmup = warmup
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["peak"] = group["lr"]

    def step(self, loss: torch.Tensor, progress: float, clip: float = 1.0) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, clip)
        factor = min(progress / self.warmup, (1 - progress) / (1 - self.warmup), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * max(factor, 0.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)


class Average:
    """Exponential moving average of parameters; the horizon grows with the number of steps taken."""

    def __init__(self, params: list[nn.Parameter], decay: float = 0.9995) -> None:
        self.params, self.decay, self.steps = params, decay, 0
        self.shadow = [p.detach().clone() for p in params]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.params], 1 - decay)

    @torch.no_grad()
    def copy_to_params(self) -> None:
        torch._foreach_copy_([p.detach() for p in self.params], self.shadow)
