"""Muon (Jordan et al., 2024) in float32, all matrices of one shape at once.

It takes the same steps as `torch.optim.Muon`, which iterates in bfloat16 over one matrix at a time.
On a CPU without bfloat16 instructions that is several times slower than the forward and backward
pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonalised steps and decoupled weight decay.

    Each parameter is a matrix; matrices of one shape make one group.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for matrix in matrices:
            by_shape.setdefault(matrix.shape, []).append(matrix)
        groups = [{"params": of_shape} for of_shape in by_shape.values()]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            live = [p for p in group["params"] if p.grad is not None]
            if not live:
                continue
            momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in live]
            gradients = [p.grad for p in live]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
            rows, columns = live[0].shape
            rate = group["lr"] * math.sqrt(max(1, rows / columns))
            steps = orthogonal(torch.stack(ahead)).unbind()
            torch._foreach_mul_(live, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(live, steps, alpha=-rate)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of matrices (n, rows, columns) near one (Newton-Schulz)."""
    a, b, c = QUINTIC
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
