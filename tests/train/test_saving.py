"""An adapter is merged where memory allows, and is a policy in any case."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import torch

from nontrivial.models.policy import load_policy
from nontrivial.train import saving


def test_an_adapter_is_merged_from_disk(write_adapter, tmp_path):
    adapted, folder = write_adapter(tmp_path / "adapter")
    merged = saving._merged_again(adapted, folder)
    ids = torch.arange(9)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-5)


def test_without_memory_the_adapter_stays_by_itself(write_adapter, tmp_path, monkeypatch, caplog):
    adapted, folder = write_adapter(tmp_path / "adapter")
    size = sum(p.numel() * p.element_size() for p in adapted.parameters())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=size))
    assert saving._merged_again(adapted, folder) is None
    assert "the adapter is not merged" in caplog.text
    load_policy(str(folder))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * size))
    assert saving._merged_again(adapted, folder) is not None
