"""The notebook runs the whole way."""

from __future__ import annotations

import pytest

from tests.pages import ROOT

NOTEBOOK = ROOT / "docs" / "first_steps.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="the extra dev is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra dev is not installed")
    pytest.importorskip("ipykernel", reason="the extra dev is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "GRPO, market1501_reid_hard_test: " in printed
    assert "GRPO, clevrer_qa_invert_val: " in printed
    assert (tmp_path / "group.png").read_bytes().startswith(b"\x89PNG")
