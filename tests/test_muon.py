"""The optimiser that the embedded policy is pre-trained with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scripts.embedded.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_it_takes_the_steps_of_torchs_own(shape):
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for _ in range(3)]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    optimisers = [Muon(ours), torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.01)]
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(shape)
            b.grad = a.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)  # torch iterates in bfloat16


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 24, 8), (2, 8, 24)])
def test_singular_values_come_near_one(shape):
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator())))
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_a_parameter_without_a_gradient_stays():
    matrices = [nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))]
    matrices[0].grad = torch.ones(4, 4)
    Muon(matrices).step()
    assert (matrices[1] == 1).all()
    assert (matrices[0] != 1).all()
