"""The benchmark of the papers' claims trains and asks what its own builders write."""

from __future__ import annotations

from pathlib import Path

from benchmarks.claims import ARMS, Options, evaluation, folder, grpo, preparations, with_error
from nontrivial.builders import qa_invert, reid_hard
from nontrivial.manifests.command import parse


def commands(options: Options) -> list[list[str]]:
    runs = [(arm, seed) for seed in range(options.seeds) for arm in ARMS]
    trained = [grpo(options, *run) for run in runs]
    asked = [evaluation(options, folder(Path(options.out), *run)) for run in runs]
    return preparations(options) + trained + asked


def test_every_table_that_is_read_was_built():
    made, read = set(), set()
    for name, *words in commands(Options()):
        if name == "builders.reid_hard":
            made.add(
                str(
                    reid_hard.target_path(
                        parse(reid_hard.Options, words, prog=name, description=None)
                    )
                )
            )
        elif name == "builders.qa_invert":
            options = parse(qa_invert.Options, words, prog=name, description=None)
            split = qa_invert.contract_split(options.split)
            made.add(str(qa_invert.target_path(options, split)))
        else:
            read |= {word for word in words if word.endswith(".parquet")}
    assert read == made


def test_every_way_gets_every_seed_and_starts_from_the_same_warm_up():
    trained = [words for name, *words in commands(Options(seeds=3)) if name == "train.grpo"]
    assert len(trained) == 3 * len(ARMS)
    starts = {words[words.index("--model_name_or_path") + 1] for words in trained}
    assert starts == {"runs/claims/warmup"}
    assert len({words[words.index("--output_dir") + 1] for words in trained}) == len(trained)


def test_one_seed_has_no_interval():
    assert with_error([0.5]) == "0.500"
    assert with_error([0.5, 0.5]) == "0.500 (±0.000)"
