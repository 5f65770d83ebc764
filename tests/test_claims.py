"""The benchmark of claims trains and asks what its own builders write, seed by seed, with power."""

from __future__ import annotations

import doctest
import json
import statistics
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from benchmarks import claims
from benchmarks.claims import (
    CLAIMS,
    Difference,
    Measure,
    Options,
    commands_of,
    evaluations,
    folder,
    grpo,
    preparations,
    rows_of,
    seeds_of,
    sentence,
    shown,
    start_of,
)
from nontrivial.builders import embed, qa_invert, reid_hard
from nontrivial.manifests.command import parse
from nontrivial.manifests.errors import WorkFailed
from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.schema import samples_table
from scripts.demo import marker_of
from tests.rows import video_question

ARMS = {arm.folder: arm for claim in CLAIMS for arm in claim.arms}


def commands(options: Options) -> list[list[str]]:
    made = preparations(options)
    for arm in ARMS.values():
        made += evaluations(options, arm, f"{options.out}/warmup", start_of(options, arm))
        for seed in range(options.seeds):
            run = folder(options, arm, seed)
            made += [grpo(options, arm, seed), *evaluations(options, arm, str(run), run)]
    return made


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(claims).failed == 0


def test_runs_at_the_same_time_log_to_files_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done, a, b = (tmp_path / name for name in ("done", "runs/a", "runs/b"))
    claims.run_all({a: [["this"]], b: [["platform"], ["keyword"]]}, done, jobs=2)
    assert "Beautiful is better" in a.with_suffix(".log").read_text()
    assert b.with_suffix(".log").read_text()
    with pytest.raises(WorkFailed, match=r"no_module ended with status 1; see .*b\.log"):
        claims.run_all({b: [["no_module"]]}, done, jobs=2)


def test_every_table_that_is_read_was_built():
    made, read = set(), set()
    for name, *words in commands(Options()):
        if name == "builders.reid_hard":
            options = parse(reid_hard.Options, words, prog=name, description=None)
            made.add(str(reid_hard.target_path(options)))
        elif name == "builders.qa_invert":
            options = parse(qa_invert.Options, words, prog=name, description=None)
            split = qa_invert.contract_split(options.split)
            made.add(str(qa_invert.target_path(options, split)))
        elif name == "builders.embed":
            options = parse(embed.Options, words, prog=name, description=None)
            made.add(f"{options.out}/embeddings/market1501_{options.split}.parquet")
        else:
            read |= {word for word in words if word.endswith(".parquet")}
    assert read <= made
    assert made - read == set()


def test_every_arm_gets_every_seed_once_and_starts_from_the_same_warm_up():
    trained = [words for name, *words in commands(Options(seeds=3)) if name == "train.grpo"]
    assert len(trained) == 3 * len(ARMS)
    starts = {words[words.index("--model_name_or_path") + 1] for words in trained}
    assert starts == {"runs/claims/warmup"}
    assert len({words[words.index("--output_dir") + 1] for words in trained}) == len(trained)


def test_arms_that_questions_share_are_trained_once():
    soft = [arm for claim in CLAIMS for arm in claim.arms if arm.name == "soft reward, no weights"]
    assert len(soft) >= 2
    assert len({arm.folder for arm in soft}) == 1
    assert len(ARMS) < sum(len(claim.arms) for claim in CLAIMS)


def test_a_question_has_the_seeds_that_all_its_arms_have_run(tmp_path):
    options, claim = Options(out=str(tmp_path)), CLAIMS[4]
    (tmp_path / ".done").mkdir()
    for seed in (0, 1, 2, 4):
        for arm in claim.arms:
            for command in commands_of(options, arm, seed):
                marker_of(command, tmp_path / ".done").touch()
    assert seeds_of(options, claim) == 3
    marker_of(grpo(options, claim.arms[1], 1), tmp_path / ".done").unlink()
    assert seeds_of(options, claim) == 1


def test_a_page_keeps_what_another_run_says_of_other_questions(tmp_path):
    options = Options(out=str(tmp_path / "nothing"), page=str(tmp_path / "page.md"))
    head = claims.HEAD.format(steps=options.steps, pair_steps=options.pair_steps)
    told = f"{head}\n## (b) Old?\n\nYes.\n\n## (d) Older?\n\nNo.\n"
    page = Path(options.page)
    page.write_text(told)
    claims.report(options)
    assert page.read_text() == told
    options.steps = 20  # shorter runs are not compared with longer ones
    claims.report(options)
    assert "Old" not in page.read_text()


def test_quick_is_shorter_and_leaves_the_page_alone():
    quick = Options(quick=True)
    assert quick.page != Options().page
    assert (quick.seeds, quick.steps) < (Options().seeds, Options().steps)


def test_the_smallest_difference_is_found_four_times_in_five():
    """Seeds are drawn around the difference that one such run calls its smallest."""
    rng = np.random.default_rng(0)
    seeds, spread = 6, 0.03
    t = stats.t(seeds - 1)
    smallest = (t.ppf(0.975) + t.ppf(0.8)) * spread / seeds**0.5
    one = Difference.of(rng.normal(0, spread, seeds).tolist())
    error = one.half / t.ppf(0.975)
    assert one.smallest == pytest.approx((t.ppf(0.975) + t.ppf(0.8)) * error)
    drawn = rng.normal(smallest, spread, (2000, seeds)).tolist()
    found = [Difference.of(values).verdict == "higher" for values in drawn]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)
    nothing = rng.normal(0, spread, (2000, seeds)).tolist()
    found = [Difference.of(values).verdict != "can't tell" for values in nothing]
    assert np.mean(found) == pytest.approx(0.05, abs=0.02)


def test_differences_are_taken_seed_by_seed():
    claim = CLAIMS[0]
    scores = {}
    for number, arm in enumerate(claim.arms):
        scores[f"start: {arm.name}"] = [[0.2]] * len(claim.measures)
        gain = 0.1 * number
        scores[arm.name] = [[s + gain for s in (0.1, 0.5, 0.9)]] * len(claim.measures)
    rows = rows_of(claim, scores)
    assert rows[0] == ("before", "0.200", "0.200", "0.200")
    end = Difference.of([0.1, 0.5, 0.9])
    assert rows[1][1] == f"{statistics.mean((0.1, 0.5, 0.9)):.3f} ± {end.half:.3f}"
    assert rows[3][1] == "+0.100 ± 0.000, higher (0.000)"  # though the seeds differ by 0.8
    assert "gains 0.100" in sentence(claim, scores)


def test_a_measure_is_the_mean_over_its_tables(tmp_path: Path):
    for name, value in (("originals", 0.4), ("inverted", 0.8)):
        out = tmp_path / "held_out" / name
        out.mkdir(parents=True)
        lines = {"manifests": {"clevrer_qa_invert_val": [{"strict": value}]}}
        (out / "summary.json").write_text(json.dumps(lines))
    assert Measure("", ("originals", "inverted"), "strict").of(tmp_path) == pytest.approx(0.6)


def test_what_was_sampled_is_scored_where_its_prompt_has_one_answer(tmp_path: Path):
    """Of three prompts, two clips answer one otherwise, which is left out."""
    from nontrivial.manifests.prompts import question_text

    asked = [video_question(f"v{k}", question=f"Question {k}?") for k in (0, 1, 2)]
    asked.append(asked[2] | {"id": "v3", "answer": ["A"]})
    path = tmp_path / "m.parquet"
    write_samples(samples_table(asked), path, {})
    answers = ["<answer>B,D</answer>", "<answer>B</answer>", "<answer>B,D</answer>"]
    written = [
        {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": text}]}],
            "completion": [{"role": "assistant", "content": answer}],
        }
        for row, answer in zip(asked, answers, strict=False)
        for text in [question_text(row["question"], row["options"], row["task"])]
    ]
    run = tmp_path / "run"
    (run / "completions").mkdir(parents=True)
    pl.DataFrame(written).write_parquet(run / "completions" / "completions_00001.parquet")
    assert claims.sampled_strict(run, str(path)) == 0.5
    assert shown(claims.sampled_strict(tmp_path / "start", str(path))) == "–"
