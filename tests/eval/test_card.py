"""Cards of policies, and what is handed to the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from nontrivial.eval.card import main
from nontrivial.eval.qa import main as answer
from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.schema import samples_table
from tests.rows import reid_pair


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    folder = tmp_path / "grpo"
    folder.mkdir()
    run = {"learning_rate": "1e-06", "output_dir": "/home/me", "model_name_or_path": "Qwen/Some"}
    (folder / "run.json").write_text(json.dumps(run | {"top_k": "None"}))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    write_samples(samples_table([reid_pair()]), tmp_path / "pairs.parquet", {})
    made = tmp_path / "made.jsonl"
    made.write_text(json.dumps({"id": "pair", "completion": "<answer>B</answer>"}) + "\n")
    words = ["--predictions", str(made), "--out", str(tmp_path / "evaluated")]
    assert answer([str(tmp_path / "pairs.parquet"), *words]) == 0
    return tmp_path / "evaluated"


def test_a_card_holds_options_and_scores_and_nobodys_paths(policy, evaluation):
    assert main([str(policy), "--evaluations", str(evaluation)]) == 0
    _, head, text = (policy / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["base_model"] == "Qwen/Some"
    assert "| learning_rate | `1e-06` |" in text
    assert "| reid_pair | 1 |" in text
    assert "plain transformers" in text  # gives other positions behind a clip
    assert "/home/me" not in text
    assert "top_k" not in text


def test_the_policy_is_uploaded_without_its_checkpoints(policy, monkeypatch, capsys):
    calls: list = []

    class Hub:
        def create_repo(self, repo: str, **arguments: object) -> str:
            calls.append((repo, arguments))
            return f"https://hub/{repo}"

        def upload_folder(self, **arguments: object) -> None:
            calls.append((arguments["repo_id"], arguments))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert main([str(policy), "--push_to_hub", "me/mine"]) == 0
    (made, created), (pushed, upload) = calls
    assert made == pushed == "me/mine"
    assert created == {"private": True, "exist_ok": True}
    assert upload["folder_path"] == str(policy)
    assert "checkpoint-*" in upload["ignore_patterns"]
    assert "*.safetensors" in upload["allow_patterns"]
    assert "https://hub/me/mine" in capsys.readouterr().out


def test_a_folder_without_a_policy_is_named(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no trained policy" in capsys.readouterr().err
