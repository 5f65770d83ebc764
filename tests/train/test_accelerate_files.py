"""The files for several GPUs are what `accelerate-launch --config_file` reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config import load_config_from_file

FILES = sorted((Path(__file__).resolve().parents[2] / "configs" / "accelerate").glob("*.yaml"))
KINDS = {
    "ddp": "MULTI_GPU",
    "zero3": "DEEPSPEED",
    "zero3_offload": "DEEPSPEED",
    "fsdp2": "FSDP",
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_read_as_what_it_is_named(file):
    config = load_config_from_file(str(file))
    assert config.distributed_type == KINDS[file.stem]
    assert config.num_processes == 8
    assert f"--config_file configs/accelerate/{file.name} -m train.grpo" in file.read_text()


def test_there_is_a_file_of_each_kind():
    assert {file.stem for file in FILES} == set(KINDS)
