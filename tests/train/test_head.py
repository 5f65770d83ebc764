"""The head that token weights use is the policy's whole head, without forbidden tokens."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from nontrivial.train.head import FORBIDDEN, check_plain_logits, head_without


class Policy(nn.Module):
    """Nothing but a head of six tokens."""

    def __init__(self, bias: bool, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.head = nn.Linear(4, 6, bias=bias, dtype=dtype)

    def get_output_embeddings(self) -> nn.Linear:
        return self.head


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [False, True])
def test_forbidden_tokens_get_no_probability(bias, dtype):
    policy, hidden = Policy(bias, dtype), torch.randn(3, 4)
    head = head_without(policy, [1, 4])
    logits = hidden @ head.weight.float().T + head.bias
    plain = policy.head.float()(hidden)
    others = [0, 2, 3, 5]
    torch.testing.assert_close(logits[:, others], plain[:, others], rtol=1e-5, atol=1e-5)
    assert logits[:, [1, 4]].max() < FORBIDDEN / 2
    assert logits.softmax(-1)[:, [1, 4]].max() == 0


@pytest.mark.parametrize("bias", [False, True])
def test_the_shards_of_fsdp2_are_gathered(one_process, bias):
    policy = Policy(bias)
    expected = head_without(policy, [2])
    weight, shift = expected.weight.detach().clone(), expected.bias.detach().clone()
    fully_shard(policy, mesh=init_device_mesh("cpu", (1,)))
    found = head_without(policy, [2])
    assert type(found.weight) is torch.Tensor
    assert torch.equal(found.weight, weight)
    assert torch.equal(found.bias, shift)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, False),
        ({"final_logit_softcapping": None, "logit_scale": 1.0}, False),
        ({"final_logit_softcapping": 30.0}, True),
        ({"logits_scaling": 8.0}, True),
    ],
)
def test_logits_that_are_no_plain_product_are_refused(change, refused):
    if not refused:
        check_plain_logits(SimpleNamespace(**change))
        return
    with pytest.raises(ValueError, match=f"{next(iter(change))} = "):
        check_plain_logits(SimpleNamespace(**change))
