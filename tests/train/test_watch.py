"""`python -m train.plot --follow`: a page that goes on with its runs and stops when they end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from nontrivial.manifests.runs import JsonLines
from nontrivial.train import watch
from nontrivial.train.plot import main
from tests import browser
from tests.train.test_plot import a_group

in_browser = pytest.mark.skipif(browser.executable() is None, reason="Chromium is not installed")
PARTS = {"time/sampling": 0.5, "time/training": 0.3, "time/scoring": 0.2}


def log(run: Path, *steps: int) -> None:
    for step in steps:
        JsonLines(run / "log.jsonl").append(
            {
                "step": step,
                "epoch": step / 10,
                "reward": 0.01 * step,
                "frac_reward_zero_std": 0.5,
                "completions/mean_length": 40 + step,
                "loss": float("nan") if step == 2 else 1 / step,
                **({"eval_exact_accuracy": step / 100} if step % 10 == 0 else {}),
                **PARTS,
            }
        )


def end(run: Path, step: int) -> None:
    (run / "trainer_state.json").write_text(json.dumps({"global_step": step}))


def data_of(page: Path) -> dict:
    [data] = re.findall(r'id="data">(.*?)</script>', page.read_text(), re.S)
    return json.loads(data)


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "run"


def test_the_page_goes_on_with_a_run_and_stops_when_it_ends(run, tmp_path, monkeypatch, capsys):
    seen: list[dict] = []

    def nap(_seconds: float) -> None:
        """What happens to the run while nobody looks."""
        page = tmp_path / "seen.html"
        if page.is_file():
            seen.append(data_of(page))
        happens = {
            1: lambda: log(run, *range(1, 21)),
            3: lambda: JsonLines(run / "samples.jsonl").append(a_group("video_qa", 20)),
            5: lambda: (log(run, 21), end(run, 21)),
        }
        happens.get(len(seen), lambda: None)()

    monkeypatch.setattr(watch.time, "sleep", nap)
    assert main([str(run), "--follow", "--out", str(tmp_path / "seen.png")]) == 0
    seen.append(data_of(tmp_path / "seen.html"))
    states = [data["tables"][0]["rows"][0] for data in seen]
    assert [row[1] for row in states] == ["", "20", "20", "20", "20", "21"]
    assert [row[3] for row in states] == ["has logged nothing yet", *["goes on"] * 4, "ended"]
    assert [bool(data["reload"]) for data in seen] == [True] * 5 + [False]
    assert [len(data["cards"]) for data in seen] == [0, 0, 0, 1, 1, 1]
    assert "seen.html; ctrl-C ends it" in capsys.readouterr().out
    Image.open(tmp_path / "seen.png").verify()


def test_ctrl_c_leaves_a_page_that_stays_as_it_is(run, tmp_path, monkeypatch):
    log(run, 1, 2, 3)

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupt)
    assert main([str(run), "--follow"]) == 0
    data = data_of(run / "curves.html")
    assert data["reload"] is None
    assert data["tables"][0]["rows"][0][3] == "goes on"


def test_a_run_that_was_taken_up_again_goes_on(run):
    assert not watch.has_ended(str(run))
    log(run, 1, 2)
    end(run, 2)
    assert watch.has_ended(str(run))
    log(run, 3)
    assert not watch.has_ended(str(run))


def test_every_panel_of_a_run_is_a_chart_and_what_is_no_number_is_left_out(run):
    log(run, *range(1, 31))
    made = watch.charts({"run": watch._history(str(run))}, smooth=3)
    charts = {chart["title"]: chart for chart in made}
    assert charts.keys() == {
        "mean reward", "share of groups without variance", "tokens of a completion", "loss",
        "held out: exactly right", "shares of a step's time",
    }  # fmt: skip
    [loss] = charts["loss"]["series"]
    assert [step for step, _ in loss["points"]] == [1, *range(3, 31)]
    [held_out] = charts["held out: exactly right"]["series"]
    assert held_out["points"] == held_out["means"] == [(10, 0.1), (20, 0.2), (30, 0.3)]
    parts = {
        one["name"]: one["points"][-1][1] for one in charts["shares of a step's time"]["series"]
    }
    assert parts["sampling"] == pytest.approx(0.5)
    assert sum(parts.values()) == pytest.approx(1)
    json.dumps(made, allow_nan=False)


@pytest.mark.parametrize("count", [1, 399, 400, 401, 5000])
def test_long_curves_are_thinned_and_keep_their_last_point(count):
    points = [(step, float(step)) for step in range(1, count + 1)]
    curve = watch._curve("run", points, 1)
    assert len(curve["points"]) == min(count, watch.POINTS)
    assert curve["points"] == sorted(set(curve["points"]))
    assert curve["points"][-1] == points[-1]
    assert curve["means"] == curve["points"]


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_loads_the_page_again_until_the_run_ends(run, tmp_path, scheme):
    page = tmp_path / "page.html"
    log(run, *range(1, 21))
    JsonLines(run / "samples.jsonl").append(a_group("video_qa", 20))
    watch.write_page([str(run)], page, smooth=3)
    step = "document.querySelector('td:nth-child(2)')?.textContent"
    with browser.opened(page, width=390, height=844) as tab:
        tab.prefer(scheme)
        assert tab.run(step) == "20"
        assert tab.run("document.querySelectorAll('svg').length") == 6
        assert tab.run("document.querySelectorAll('p.text span').length") == 4 * 48
        assert tab.run("document.documentElement.scrollWidth") <= 390
        assert tab.least_contrast()[0] >= 4.5
        log(run, 21)
        watch.write_page([str(run)], page, smooth=3, reload=0.5)
        tab.run("location.reload()")
        tab.until(f"{step} === '21'")
        end(run, 21)
        watch.write_page([str(run)], page, smooth=3)  # which the browser loads by itself
        tab.until("document.querySelector('td:nth-child(4)')?.textContent === 'ended'")
        asked = len(tab.requests)
        tab.until("performance.now() > 1000")
        assert len(tab.requests) == asked
        assert tab.errors == []
