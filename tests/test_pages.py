"""The commands of the pages run, and print what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import pages

DOCS = pages.ROOT / "docs"
SHOWING = sorted(page for page in DOCS.glob("*.md") if "```console" in page.read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("page", SHOWING, ids=lambda page: page.name)
def test_its_commands_print_what_it_says(page, tmp_path):
    assert pages.differences(page.read_text(encoding="utf-8"), tmp_path) == []


PAGE = """
Write `said.py`:

```python
print("one")
print("two")
```

```console
$ python said.py
one
two
$ python \\
    said.py
one
...
$ python said.py
three
$ python absent.py
```
"""


def test_a_page_that_says_something_else_is_found(tmp_path):
    wrong, failed = pages.differences(PAGE, tmp_path)
    assert wrong.startswith("$ python said.py\nprinted\none\ntwo\n")
    assert failed.startswith("$ python absent.py\nstatus 2\n")


def test_a_page_is_renewed_but_for_what_leaves_something_out(tmp_path, capsys):
    file = tmp_path / "page.md"
    file.write_text(PAGE, encoding="utf-8")
    assert pages.main(["--renew", str(file)]) == 0
    assert "$ python said.py\none\ntwo\n" in capsys.readouterr().out
    assert file.read_text(encoding="utf-8") == PAGE.replace("three\n", "one\ntwo\n")


def test_the_pages_that_teach_are_run():
    assert len(SHOWING) >= 6


def test_links_between_pages_lead_somewhere():
    for page in (*pages.ROOT.glob("*.md"), *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert Path(page.parent, target).exists(), f"{page.name}: {target}"
