"""An audit keeps every mark, goes on where it was, and listens to its own page alone."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from nontrivial.manifests.__main__ import main
from nontrivial.manifests.audit import MARKS, error_rates, marks_file, read_marks, sample
from nontrivial.manifests.page.auditing import audit_server
from nontrivial.manifests.parquet import read_samples, write_samples
from nontrivial.manifests.schema import samples_table
from tests import browser
from tests.rows import video_question

RULES = {"does": 30, "subject": 3, "fallback": 60}


def inverted(name: str, rule: str) -> dict:
    row = video_question(name)
    return row | {"qa": {**(row["qa"] or {}), "rule": rule, "inverted": True}}


@pytest.fixture
def manifest(tmp_path) -> Path:
    rows = [inverted(f"{rule}{n}", rule) for rule, count in RULES.items() for n in range(count)]
    write_samples(samples_table(rows), tmp_path / "some.parquet", {"media_root": str(tmp_path)})
    return tmp_path / "some.parquet"


def rows_of(path: Path) -> list[dict]:
    return read_samples(path).to_pylist()


def test_each_rule_is_read_equally_often_as_far_as_it_goes(manifest):
    rows = rows_of(manifest)
    some = sample(rows, 33)
    assert Counter(row["qa"]["rule"] for row in some) == {"does": 15, "subject": 3, "fallback": 15}
    assert [row["id"] for row in sample(rows[::-1], 33)] == [row["id"] for row in some]
    assert len(sample(rows, 1000)) == len(rows)


def test_rates_count_each_mark_and_every_error(manifest):
    some = sample(rows_of(manifest), 9)
    does, subject, _ = ([row["id"] for row in some if row["qa"]["rule"] == rule] for rule in RULES)
    marks = dict.fromkeys(does, "sound") | {subject[0]: "wrong", subject[1]: "stiff"}
    lines = {line[0]: line for line in error_rates(some, marks)}
    assert lines["does"][1:-1] == ("3", "3", "0", "0", "0", "0")
    assert lines["does"][-1].startswith("0.0% (0.0%–")
    assert lines["subject"][-1].startswith("50.0% (")
    assert lines["all"][1] == "5"
    assert error_rates(some, {}) == []


@pytest.fixture
def served(manifest):
    server, address = audit_server(manifest, sample(rows_of(manifest), 6), None, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield manifest, address
    server.shutdown()
    thread.join()
    server.server_close()


def send(address: str, body: object, secret: str | None = None) -> int:
    base, _, own = address.partition("/?")
    request = urllib.request.Request(f"{base}/mark", json.dumps(body).encode(), method="POST")
    request.add_header("X-Secret", own if secret is None else secret)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def page_data(address: str) -> dict:
    with urllib.request.urlopen(address) as answer:
        text = answer.read().decode()
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(data)


def test_marks_are_kept_and_shown_again(served):
    manifest, address = served
    cards = page_data(address)["cards"]
    assert len(cards) == 6
    name = cards[0]["title"]
    assert send(address, {"id": name, "mark": "stiff"}) == 204
    assert send(address, {"id": name, "mark": "sound"}) == 204
    assert read_marks(manifest) == {name: "sound"}
    assert len(marks_file(manifest).read_text().splitlines()) == 2
    assert page_data(address)["cards"][0]["facets"]["mark"] == "sound"


@pytest.mark.parametrize(
    ("body", "secret"),
    [
        ({"id": "does0", "mark": "perfect"}, None),
        ({"id": "nobody", "mark": "sound"}, None),
        ({"id": "does0", "mark": "sound"}, "guess"),
        ({"id": ["x"], "mark": "sound"}, None),
        ([1], None),
        ({"id": "x" * 20_000, "mark": "sound"}, None),
    ],
)
def test_anything_else_is_refused_and_nothing_is_written(served, body, secret):
    manifest, address = served
    assert send(address, body, secret) == 403
    assert not marks_file(manifest).exists()


def test_the_page_needs_its_secret(served):
    _, address = served
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(address.partition("?")[0])


def test_a_torn_or_foreign_line_is_passed_over(manifest):
    good = {"id": "does0", "mark": "sound"}
    lines = [
        json.dumps(good),
        '{"id": 3, "mark": "sound"}',
        '{"id": "a", "mark": "x"}',
        '{"id": "d',
    ]
    marks_file(manifest).write_text("\n".join(lines))
    assert read_marks(manifest) == {"does0": "sound"}


def test_the_command_prints_the_rates(manifest, capsys):
    assert main(["audit", str(manifest), "--rates_only"]) == 0
    assert "nothing was marked yet" in capsys.readouterr().out
    marks_file(manifest).write_text(json.dumps({"id": "subject0", "mark": "wrong"}) + "\n")
    assert main(["audit", str(manifest), "--rates_only"]) == 0
    printed = capsys.readouterr().out
    assert all(mark in printed for mark in MARKS)
    assert "100.0%" in printed


@pytest.mark.skipif(browser.executable() is None, reason="Chromium is not installed")
def test_a_person_audits_with_the_keyboard_alone_and_goes_on_later(served, tmp_path):
    manifest, address = served
    ids = [card["title"] for card in page_data(address)["cards"]]
    with browser.opened(address, profile=tmp_path / "profile") as tab:
        assert tab.run("document.querySelectorAll('article').length") == 1
        for place, key in enumerate("142"):
            assert tab.run("document.querySelector('article h3').textContent") == ids[place]
            tab.press(key)
            tab.until(f"document.querySelector('article h3').textContent === {ids[place + 1]!r}")
        assert tab.errors == []
    expected = dict(zip(ids, ("sound", "wrong", "stiff"), strict=False))
    assert read_marks(manifest) == expected
    with browser.opened(address, profile=tmp_path / "again") as tab:
        assert tab.run("document.querySelector('article h3').textContent") == ids[3]
