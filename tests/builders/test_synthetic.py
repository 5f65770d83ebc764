"""The drawn data sets: real layouts, exact motion, a truth that is true."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from nontrivial.builders.synthetic import clips, people
from nontrivial.builders.synthetic.__main__ import CLEVRER, MARKET, main
from nontrivial.manifests.decoders import sample_frames
from tests.reference.discs import simulate_in_small_steps

SMALL = "--identities 4 --test_identities 3 --images_per_identity 6 --videos 3 --test_videos 2"
NAME = re.compile(r"(-1|\d{4})_c([1-6])s\d_\d{6}_\d{2}\.jpg")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("drawn")
    assert main([*SMALL.split(), "--out", str(out)]) == 0
    return out


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    read = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    assert read
    return read


def test_the_same_options_give_the_same_bytes(drawn, tmp_path):
    assert main([*SMALL.split(), "--out", str(tmp_path)]) == 0
    assert digest(tmp_path) == digest(drawn)


def test_another_seed_gives_other_pictures(drawn, tmp_path):
    assert main([*SMALL.split(), "--out", str(tmp_path), "--seed", "1"]) == 0
    changed = {name for name, value in digest(tmp_path).items() if digest(drawn).get(name) != value}
    assert any(name.endswith(".jpg") for name in changed)
    assert any(name.endswith(".mp4") for name in changed)


def test_people_have_the_names_and_roles_of_market1501(drawn):
    folder = drawn / MARKET
    pids = {}
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        names = [path.name for path in (folder / part).iterdir()]
        assert all(NAME.fullmatch(name) for name in names)
        pids[part] = {name.split("_")[0] for name in names}
    assert {"-1", "0000"} <= pids["bounding_box_test"]
    assert pids["query"] == pids["bounding_box_test"] - {"-1", "0000"}
    assert not pids["bounding_box_train"] & pids["query"]


def test_the_truth_covers_every_picture(drawn):
    folder = drawn / MARKET
    truth = {row["path"] for row in pq.read_table(folder / "truth.parquet").to_pylist()}
    assert truth == {str(path.relative_to(folder)) for path in folder.rglob("*.jpg")}


@pytest.mark.parametrize("seed", [0, 1, 90_210])
def test_no_training_identity_is_ever_held_out(seed):
    held_out = {p.attributes for p in people.plan("public", 0, 10, 50, 6) if p.folder == "query"}
    trained = {
        photo.attributes
        for world in people.WORLDS
        for photo in people.plan(world, seed, 300, 50, 6)
        if photo.folder == "bounding_box_train"
    }
    assert len(held_out) == 50
    assert not held_out & trained


def test_the_worlds_share_no_identity():
    public, pretraining = (set(people.identities(world)) for world in people.WORLDS)
    assert len(public) == len(pretraining) == 840
    assert not public & pretraining


def test_too_many_identities_are_bad_usage(tmp_path, capsys):
    assert main(["--identities", "2000", "--out", str(tmp_path), "--only", "market1501"]) == 2
    assert "the public world has 840" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(6))
def test_motion_is_that_of_small_steps(seed):
    world, motion = clips.draw_world(np.random.default_rng(seed))
    naive, hits = simulate_in_small_steps(
        world.start, world.velocity, clips.FRAMES, clips.RADIUS, (clips.WIDTH, clips.HEIGHT)
    )
    assert motion.hits(0, clips.FRAMES - 1) == hits
    np.testing.assert_allclose(motion.positions[: clips.FRAMES], naive, atol=0.5)


@pytest.mark.parametrize("seed", range(6))
def test_nobody_leaves_or_overlaps(seed):
    world, motion = clips.draw_world(np.random.default_rng(seed))
    assert motion.positions.min() >= clips.RADIUS - 1e-6
    assert (
        motion.positions.max((0, 1)) <= np.array([clips.WIDTH, clips.HEIGHT]) - clips.RADIUS + 1e-6
    ).all()
    gaps = motion.positions[:, :, None] - motion.positions[:, None]
    distance = np.linalg.norm(gaps, axis=-1) + np.eye(len(world.names)) * 99
    assert distance.min() >= 2 * clips.RADIUS - 1e-6


def test_an_object_that_touches_nothing_changes_nothing_by_leaving():
    start = np.array([[20.0, 20.0], [60.0, 20.0], [100.0, 80.0]])
    velocity = np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    world = clips.World(("red cube", "blue cube", "cyan sphere"), start, velocity)
    whole, fewer = clips.simulate(start, velocity, clips.FRAMES), clips.without(world, 2)
    np.testing.assert_array_equal(whole.positions[:, :2], fewer.positions[:, :2])
    assert whole.hits() == fewer.hits() == {(0, 1)}
    assert clips.without(world, 1).hits() == set()


def test_counterfactual_choices_are_what_happens_without_the_object():
    asked = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        world, motion = clips.draw_world(rng)
        for question in clips.ask(world, motion, rng):
            if question.kind != "counterfactual":
                continue
            asked += 1
            gone = next(i for i, name in enumerate(world.names) if name in question.text)
            _, hits = simulate_in_small_steps(
                np.delete(world.start, gone, 0),
                np.delete(world.velocity, gone, 0),
                clips.FRAMES,
                clips.RADIUS,
                (clips.WIDTH, clips.HEIGHT),
            )
            left = [name for i, name in enumerate(world.names) if i != gone]
            for text, right in question.choices:
                pair = tuple(sorted(i for i, name in enumerate(left) if name in text))
                assert right == ((pair in hits) != (" not " in question.text)), (seed, text)
    assert asked > 10


def questions(kind: str, worlds: int) -> Iterator[tuple[clips.World, clips.Motion, Any]]:
    """Yield the questions of one kind about so many worlds, each with its world and motion."""
    for seed in range(worlds):
        rng = np.random.default_rng(seed)
        world, motion = clips.draw_world(rng)
        for question in clips.ask(world, motion, rng):
            if question.kind == kind:
                yield world, motion, question


def seen_in(states: str) -> tuple[list[str], list[str], list[tuple[str, ...]]]:
    """Return the objects that move and that rest, and the pairs that collide, in their order."""
    moving, resting, hits = re.fullmatch("moves (.+); still (.+); hits (.+);", states).groups()
    names = re.compile(r"\w+ (?:cube|sphere|cylinder)")
    pairs = [tuple(names.findall(hit)) for hit in hits.split("; ")]
    return names.findall(moving), names.findall(resting), pairs


def test_collisions_are_told_in_the_order_in_which_they_happen():
    for seed in range(20):
        world, motion = clips.draw_world(np.random.default_rng(seed))
        _, _, pairs = seen_in(clips.states(world, motion))
        told = [{world.names[i], world.names[j]} for _, i, j in clips.seen_hits(motion)]
        assert 0 < len(pairs) <= clips.MAX_HITS
        assert [set(pair) for pair in pairs] == told


def test_a_spark_shows_each_collision_and_nothing_else():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        world, motion = clips.draw_world(rng)
        rendered = clips.render(world, motion, rng)
        lit = (rendered.min(-1) > 235).sum((1, 2)) > 20
        near = np.zeros(clips.FRAMES, bool)
        for moment, _, _ in clips.seen_hits(motion):
            near |= np.abs(np.arange(clips.FRAMES) - moment) <= clips.SPARK
        np.testing.assert_array_equal(lit, near)


def test_what_may_be_selected_is_true_of_what_is_seen():
    asked = set()
    for world, motion, question in questions("selective", 40):
        moving, resting, pairs = seen_in(clips.states(world, motion))
        truths = {"move": moving, "stay": resting, "collide": [n for pair in pairs for n in pair]}
        word = next(word for word in truths if word in question.text)
        asked.add(word)
        for text, right in question.choices:
            assert right == (text.removeprefix("The ") in truths[word])
        assert len(set(question.choices)) == clips.OBJECTS + 1
    assert asked == {"move", "stay", "collide"}


def test_a_step_of_a_chain_happens_only_behind_the_one_before_it():
    lengths = set()
    for world, motion, question in questions("chained", 60):
        _, _, pairs = seen_in(clips.states(world, motion))
        begin, unbroken = 0, True
        for text, right in question.choices:
            step = {name for name in world.names if name in text}
            later = [k for k in range(begin, len(pairs)) if set(pairs[k]) == step]
            unbroken &= bool(later)
            assert right == unbroken
            begin = later[0] + 1 if later else begin
        lengths.add(sum(right for _, right in question.choices))
    assert lengths >= {0, 1, 2}


def test_causes_follow_from_the_collisions_seen():
    asked = 0
    for world, motion, question in questions("explanatory", 120):
        _, _, pairs = seen_in(clips.states(world, motion))
        known = {name for name in world.names if name in question.text}
        last = next(k for k, pair in enumerate(pairs) if set(pair) == known)
        tied = set(known)
        for pair in reversed(pairs[:last]):
            tied |= set(pair) if tied & set(pair) else set()
        for text, right in question.choices:
            assert right == any(name in text for name in tied)
        asked += 1
    assert asked


def test_consequences_follow_from_the_collisions_seen():
    asked = 0
    for world, motion, question in questions("counterfactual", 120):
        _, _, pairs = seen_in(clips.states(world, motion))
        touched = {next(name for name in world.names if name in question.text)}
        kept = []
        for pair in pairs:
            if touched & set(pair):
                touched |= set(pair)
            else:
                kept.append(set(pair))
        for text, right in question.choices:
            happens = {name for name in world.names if name in text} in kept
            assert right == (happens != (" not " in question.text))
        asked += 1
    assert asked


def test_descriptions_follow_from_what_is_seen():
    asked = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        world, motion = clips.draw_world(rng)
        moving, resting, _ = seen_in(clips.states(world, motion))
        assert sorted(moving + resting) == sorted(world.names)
        for question in clips.ask(world, motion, rng):
            if question.kind != "descriptive":
                continue
            asked.add(question.subtype)
            meant, answer = question.concluded.split("; ")
            assert answer == question.answer
            group = moving if "moving" in question.text else resting
            shape = re.search("cube|sphere|cylinder", question.text)
            alike = [name for name in group if shape and name.endswith(shape[0])]
            if question.subtype == "count":
                assert (meant, answer) == (" ".join(group or ["none"]), str(len(group)))
            elif question.subtype == "exist":
                assert (meant, answer) == (" ".join(alike or ["none"]), "yes" if alike else "no")
            elif question.subtype == "query_color":
                assert [meant] == alike
                assert meant.startswith(answer)
            else:
                assert meant in world.names
                assert meant == f"{question.text.split()[4]} {answer}"
    assert asked == {"exist", "count", "query_color", "query_shape"}


def test_questions_have_clevrers_layout(drawn):
    scenes = json.loads((drawn / CLEVRER / "train.json").read_text())
    assert [scene["scene_index"] for scene in scenes] == [0, 1, 2]
    for scene in scenes:
        assert (
            drawn / CLEVRER / "video_train/video_00000-01000" / scene["video_filename"]
        ).is_file()
        for question in scene["questions"]:
            if question["question_type"] == "descriptive":
                assert question["answer"]
                assert "choices" not in question
            else:
                assert {c["answer"] for c in question["choices"]} <= {"correct", "wrong"}


def test_a_clip_decodes_to_what_was_rendered(drawn):
    rng = np.random.default_rng([0, 6, 1])
    world, motion = clips.draw_world(rng)
    rendered = clips.render(world, motion, rng)
    clip = sample_frames(drawn / CLEVRER / "video_train/video_00000-01000/video_00001.mp4")
    assert clip.sampled_fps == pytest.approx(2.0)
    # Chroma is stored at half resolution, so edges differ; most of the picture does not.
    error = np.abs(clip.frames.astype(int) - rendered[clip.indices])
    assert np.median(error) <= 4
    assert error.mean() < 8
