"""`python -m manifests gallery`: a page that is safe, bounded, and says what it could not show."""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
from pathlib import Path

import pytest

from nontrivial.manifests.__main__ import main
from nontrivial.manifests.left_out import read_ids
from nontrivial.manifests.page import Thumbnails, as_json, gallery
from nontrivial.manifests.parquet import write_samples, write_table
from nontrivial.manifests.schema import samples_table
from tests import browser
from tests.media_files import write_clip, write_image
from tests.rows import media, reid_pair, video_question

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
)
in_browser = pytest.mark.skipif(browser.executable() is None, reason="Chromium is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(4):
        write_image(tmp_path / f"data/{i}.jpg", seed=i)
    write_clip(tmp_path / "data/clip.mp4")
    return tmp_path


def write(folder: Path, rows: list[dict], name: str = "some.parquet") -> Path:
    write_samples(samples_table(rows), folder / name, {"media_root": str(folder / "data")})
    return folder / name


def some_rows(count: int = 30) -> list[dict]:
    pairs = [
        reid_pair(
            f"pair{i:02d}",
            images=[media("0.jpg"), media(f"{1 + i % 3}.jpg")],
            difficulty=i / count,
        )
        for i in range(count)
    ]
    return [*pairs, video_question(videos=[media("clip.mp4")])]


def build(folder: Path, *files: Path, words: tuple[str, ...] = ()) -> dict:
    """The data of the page that the command writes."""
    page = folder / "page.html"
    assert main(["gallery", *map(str, files), "--out", str(page), *words]) == 0
    text = page.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(data)


def test_every_row_is_a_card_with_its_media_and_each_image_is_stored_once(folder):
    data = build(folder, write(folder, some_rows()))
    assert [card["title"] for card in data["cards"]] == [f"pair{i:02d}" for i in range(30)] + [
        "question"
    ]
    assert len(data["images"]) == 4 + 4  # images, and frames of the clip
    items = data["cards"][0]["blocks"][0]["items"]
    assert [item["mark"] for item in items] == ["", "wrong"]
    assert "similarity 0.800" in items[1]["caption"]
    assert "rank 2" in items[1]["caption"]
    assert "camera 3" in items[1]["caption"]


def crash(*_: object) -> None:
    signal.raise_signal(signal.SIGSEGV)


def test_a_clip_that_crashes_its_decoder_is_a_problem_of_one(folder, monkeypatch):
    monkeypatch.setattr("nontrivial.manifests.page._frames", crash)
    thumbnails = Thumbnails(10**6)
    assert thumbnails.clip(media("clip.mp4"), str(folder / "data")) == []
    assert thumbnails.image(media("0.jpg"), str(folder / "data")) == 0
    assert thumbnails.problems == {"clip.mp4": "the decoder crashed (SIGSEGV)"}


def test_an_inverted_question_stands_beside_its_original(folder):
    (card,) = build(folder, write(folder, some_rows(0)))["cards"]
    now, before = card["blocks"][1]["parts"]
    assert (now["text"], before["text"]) == (
        "Which of these does not happen?",
        "Which of these happens?",
    )
    assert [right for _, _, right in now["options"]] == [False, True, False, True]
    assert [right for _, _, right in before["options"]] == [True, False, True]


def test_rows_and_thumbnails_are_bounded_and_the_page_says_so(folder, capsys):
    path = write(folder, some_rows())
    data = build(folder, path, words=("--rows", "5", "--max_mb", "0.000001"))
    assert [card["title"] for card in data["cards"]] == [
        "pair00", "pair06", "pair12", "pair18", "pair24",
    ]  # fmt: skip
    assert len(data["images"]) == 1
    assert "raise --max_mb" in (folder / "page.html").read_text()
    assert "media beyond --max_mb" in capsys.readouterr().out


def test_damaged_and_missing_media_are_named_and_the_row_is_shown(folder, capsys):
    (folder / "data/1.jpg").write_bytes(b"")
    (folder / "data/clip.mp4").unlink()
    data = build(folder, write(folder, some_rows(3)))
    assert len(data["cards"]) == 4
    shown = capsys.readouterr().err
    assert "1.jpg: is empty" in shown
    assert "clip.mp4: cannot be opened" in shown


def test_a_quarantine_is_shown_with_its_reasons(folder):
    import pyarrow as pa

    row = {"anchor_path": "0.jpg", "candidate_path": "1.jpg", "reason": "duplicate"}
    row |= {"anchor_pid": "m/train/1", "candidate_pid": "m/train/2", "similarity": 0.9}
    path = folder / "doubts.parquet"
    write_table(pa.Table.from_pylist([row]), path, {"media_root": str(folder / "data")})
    (card,) = build(folder, path)["cards"]
    assert card["facets"]["reason"] == "duplicate"
    assert card["numbers"] == {"similarity": 0.9}


def test_an_embeddings_table_is_refused_with_what_to_name_instead(folder, capsys):
    import pyarrow as pa

    path = folder / "vectors.parquet"
    write_table(pa.table({"vector_one": [[1.0]]}), path, {})
    assert main(["gallery", str(path), "--out", str(folder / "page.html")]) == 2
    assert "name samples" in capsys.readouterr().err


def test_no_text_can_end_the_script_that_holds_it():
    for text in ("</script>", "<!--", "]]>", "\u2028", "\ud800"):
        written = as_json({"a": text})
        assert not set("<>&") & set(written)
        written.encode()
        assert json.loads(written) == {"a": text}


def test_thumbnails_keep_within_their_size(folder):
    write_image(folder / "data/large.jpg", size=(900, 300))
    thumbnails = Thumbnails(10**6)
    first = thumbnails.image(media("large.jpg"), folder / "data")
    assert thumbnails.image(media("large.jpg"), folder / "data") == first == 0
    import base64
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(thumbnails.data[0])))
    assert image.size == (160, 53)


@pytest.mark.slow
@in_browser
def test_hostile_text_in_every_column_is_shown_as_text(folder):
    pair = reid_pair(
        "a" + HOSTILE, source=HOSTILE, group=HOSTILE, question=HOSTILE, options=[HOSTILE, "No"],
        images=[media("0.jpg"), media("1.jpg")], rationale=HOSTILE,
    )  # fmt: skip
    pair["reid"] = {k: HOSTILE if isinstance(v, str) else v for k, v in pair["reid"].items()}
    asked = video_question("b" + HOSTILE, videos=[media("clip.mp4")], source=HOSTILE)
    asked["qa"] |= dict.fromkeys(("family", "rule", "parent_id", "original_question"), HOSTILE)
    build(folder, write(folder, [pair, asked]))
    with browser.opened(folder / "page.html") as tab:
        assert tab.run("document.title") == "gallery"
        assert tab.run("document.querySelectorAll('script').length") == 2
        assert tab.run("document.querySelectorAll('main img').length") == 2 + 4
        assert HOSTILE in tab.run("document.querySelector('main').textContent")
        assert tab.errors == []
        assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.slow
@in_browser
def test_filters_and_keys_work_on_a_desk_and_on_a_phone(folder):
    build(folder, write(folder, some_rows()))
    count = "document.getElementById('count').textContent"
    for width in (1280, 390):
        with browser.opened(folder / "page.html", width=width, height=800) as tab:
            assert tab.run("document.documentElement.scrollWidth") <= width
            assert tab.run(count) == "1–24 of 31"
            tab.press("n")
            assert tab.run(count) == "25–31 of 31"
            tab.press("p")
            tab.press("j")
            tab.press("j")
            assert tab.run("document.activeElement.querySelector('h3').textContent") == "pair01"
            tab.run(
                "document.querySelector('[data-least=difficulty]').value = 0.5;"
                "document.getElementById('order').value = 'difficulty|-1'; search()"
            )
            assert tab.run(count) == "1–15 of 15"
            assert tab.run("document.querySelector('h3').textContent") == "pair29"
            tab.press("/")
            assert tab.run("document.activeElement.id") == "search"
            for key in "pair2":
                tab.press(key)
            assert tab.run(count) == "1–10 of 10"
            tab.press("Escape")
            tab.run("document.querySelector('[data-facet=task]').value = '\"video_qa\"'; search()")
            assert tab.run(count) == "nothing fits these filters"
            assert tab.errors == []


@pytest.mark.slow
@in_browser
def test_twenty_thousand_rows_open_at_once(folder):
    rows = [
        reid_pair(f"row{i:05d}", images=[media("0.jpg"), media("1.jpg")]) for i in range(20_000)
    ]
    assert len(build(folder, write(folder, rows), words=("--rows", "20000"))["cards"]) == 20_000
    with browser.opened(folder / "page.html") as tab:
        assert tab.run("document.getElementById('count').textContent") == "1–24 of 20000"
        opening = tab.busy_seconds()
        tab.press("n")
        assert tab.run("document.getElementById('count').textContent") == "25–48 of 20000"
        print(f"20,000 rows: {opening:.2f} s to open, {tab.busy_seconds() - opening:.2f} s a page")
        assert 0 < opening < 3


FOCUSED = "document.activeElement.closest('article')?.querySelector('h3').textContent ?? ''"
OPENED = "document.getElementById('opened').open"
IN_DIALOG = "document.querySelector('#opened h3').textContent"


@pytest.mark.slow
@in_browser
def test_cards_are_walked_opened_and_left_with_the_keyboard_alone(folder):
    build(folder, write(folder, some_rows(60)))
    with browser.opened(folder / "page.html", width=1400, height=900) as tab:
        for key in ("j", "ArrowRight", "ArrowLeft", "k", "k"):
            tab.press(key)
        assert tab.run(FOCUSED) == "pair00"
        for _ in range(24):
            tab.press("j")
        assert tab.run(FOCUSED) == "pair24"  # on the next page
        tab.press("k")
        assert tab.run(FOCUSED) == "pair23"
        tab.press("Enter")
        assert tab.run(OPENED)
        assert tab.run(IN_DIALOG) == "pair23"
        tab.press("j")
        assert tab.run(IN_DIALOG) == "pair24"
        tab.press("m")
        assert not tab.run(OPENED)
        tab.until(f"({FOCUSED}) === 'pair24'")
        tab.press("?")
        assert "mark the card" in tab.run("document.getElementById('keys').textContent")
        tab.press("j")  # the keys of the page wait
        tab.press("?")
        assert tab.run(FOCUSED) == "pair24"
        assert tab.errors == []


@pytest.mark.slow
@in_browser
def test_a_sheet_shows_24_rows_at_a_glance_and_is_remembered(folder):
    build(folder, write(folder, some_rows(60)))
    seen = (
        "[...document.querySelectorAll('article')].filter((card) => {"
        " const at = card.getBoundingClientRect();"
        " return at.top >= 0 && at.bottom <= innerHeight; }).length"
    )
    with browser.opened(folder / "page.html", width=1400, height=900) as tab:
        assert tab.run(seen) < 12
        tab.press("s")
        assert tab.run(seen) == 24
        tab.press("j")
        tab.press("ArrowDown")
        below = tab.run("[...document.querySelectorAll('article')].findIndex((c) => c.offsetTop > 0"
            " && c.offsetTop !== document.querySelector('article').offsetTop)")  # fmt: skip
        assert tab.run(FOCUSED) == f"pair{below:02d}"
        tab.press("ArrowUp")
        assert tab.run(FOCUSED) == "pair00"
        tab.reload()
        assert tab.run("document.querySelector('#cards.sheet article') !== null")
        assert tab.errors == []


@pytest.mark.slow
@in_browser
def test_marks_are_kept_filtered_and_exported_as_a_file_that_exclude_reads(folder):
    path = write(folder, some_rows(30))
    build(folder, path)
    shown = "[...document.querySelectorAll('article h3')].map((one) => one.textContent).join()"
    with browser.opened(folder / "page.html") as tab:
        for key in ("j", "x", "j", "x", "j", "x", "x"):  # the last one is taken back
            tab.press(key)
        tab.press("m")
        tab.press("j")
        tab.press("x")
        tab.press("m")
        button = "document.getElementById('marks').textContent"
        assert tab.run(button) == "3 marked"
        tab.reload()
        assert tab.run(button) == "3 marked"
        tab.run("document.getElementById('marked').value = 'marked'; search()")
        assert tab.run(shown) == "pair00,pair01,pair03"
        tab.run("document.getElementById('marked').value = 'other'; search()")
        assert tab.run("document.getElementById('count').textContent") == "1–24 of 28"
        tab.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        tab.run("document.getElementById('marks').click()")
        assert tab.run("document.querySelector('textarea').value") == "pair00\npair01\npair03\n"
        tab.run("[...document.querySelectorAll('#export button')][0].click()")
        end = time.monotonic() + 20
        while not (folder / "ids.txt").is_file() and time.monotonic() < end:
            tab.run("1")
            time.sleep(0.05)
        assert read_ids(str(folder / "ids.txt")) == {"pair00", "pair01", "pair03"}
        assert tab.errors == []
        assert [
            url for url in tab.requests if not url.startswith(("file:", "data:", "blob:"))
        ] == []


@pytest.mark.slow
@in_browser
def test_marks_belong_to_the_content_of_the_files(folder):
    """Another page about the same rows has them, a page about others does not."""
    build(folder, write(folder, some_rows(3)))
    with browser.opened(folder / "page.html") as tab:
        tab.press("j")
        tab.press("x")
        again = build(folder, write(folder, some_rows(3), "again.parquet"))
        tab.reload()
        assert tab.run("document.getElementById('marks').textContent") == "1 marked"
        other = build(folder, write(folder, some_rows(4)))
        tab.reload()
        assert tab.run("document.getElementById('marks').textContent") == "0 marked"
    assert again["marks"] != other["marks"]


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_readable_in_light_and_in_dark(folder, scheme):
    build(folder, write(folder, some_rows(30)))
    with browser.opened(folder / "page.html") as tab:
        other = {"light": "dark", "dark": "light"}[scheme]
        for system, presses in ((scheme, 0), (other, 1 if scheme == "light" else 2)):
            tab.prefer(system)
            for _ in range(presses):
                tab.run("document.getElementById('theme').click()")
            ground = tab.run("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
            tab.press("j")
            tab.press("x")
            least, where, texts = tab.least_contrast()
            assert least >= 4.5, where
            assert texts > 200
            tab.press("x")


def test_many_rows_are_shown_in_parts_that_name_each_other(folder, monkeypatch, capsys):
    monkeypatch.setattr(gallery, "PART", 10)
    first = build(folder, write(folder, some_rows(24)), words=("--rows", "100"))
    texts = [(folder / f"page{end}.html").read_text() for end in ("", "-2", "-3")]
    assert not (folder / "page-4.html").exists()
    for text in texts:
        links = re.findall(r'<a href="(.*?)">(\d)</a>', text)
        assert links == [("page.html", "1"), ("page-2.html", "2"), ("page-3.html", "3")]
    found = [re.findall(r'"title":"(pair\d\d|question)","blocks"', text) for text in texts]
    assert [len(part) for part in found] == [10, 10, 5]
    assert sorted(itertools.chain(*found)) == [f"pair{i:02d}" for i in range(24)] + ["question"]
    assert all(f'"marks":"{first["marks"]}"' in text for text in texts)
    assert "part 3 of 3" in texts[2]
    assert re.search(r"pages +3\b", capsys.readouterr().out)
