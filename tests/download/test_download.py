"""The download command: the text in data/raw, the content of corpus.json, and what remains after a failure."""

import errno
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from click.testing import CliRunner, Result

from stages.core import files
from stages.core.records import Provenance
from stages.core.text_files import read_text
from stages.download import corpora, fetching
from stages.download.command import command
from stages.download.params import DownloadParams

TEXT = "Now is the winter of our discontent\nMade glorious summer – by this sun of York\n"
SUM = hashlib.sha256(TEXT.encode()).hexdigest()
CLOSED = "http://127.0.0.1:1/words.txt"  # nothing listens on port 1: refused at once
CORPUS, PROVENANCE = Path("data/raw/corpus.txt"), Path("data/raw/corpus.json")
MIRRORED = Path("mirror/tinyshakespeare/input.txt")

Download = Callable[..., Result]


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Download:
    """Run the command in an empty folder, with `download:` as given; the known text is a small one, on no network."""
    known = replace(corpora.TINYSHAKESPEARE, url=CLOSED, sha256=SUM)
    monkeypatch.setattr(corpora, "TINYSHAKESPEARE", known)
    monkeypatch.setattr(fetching, "RETRIES", fetching.RETRIES.new(backoff_factor=0.0))
    monkeypatch.setenv("FOLIO_MIRROR", "mirror")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(**changes: object) -> Result:
        section = {
            "corpus": "tinyshakespeare",
            "url": None,
            "sha256": None,
            "licence": "unknown",
            "max_bytes": 10**6,
            "column": "text",
            "sources": {"*": 1.0},
            "when_unreachable": "fail",
        }
        Path("params.yaml").write_text(json.dumps({"download": section | changes}))  # JSON is YAML
        return CliRunner().invoke(command, [])

    return run


def put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def succeeded(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stderr


def provenance() -> dict[str, object]:
    values: dict[str, object] = json.loads(PROVENANCE.read_text())
    return values


def test_a_pinned_text_comes_from_the_mirror_and_corpus_json_records_it(download: Download):
    put(MIRRORED, TEXT)
    succeeded(download())
    assert CORPUS.read_bytes() == TEXT.encode()
    assert provenance() == {
        "name": "tinyshakespeare",
        "source": "mirror",
        "sha256": SUM,
        "bytes": len(TEXT.encode()),
        "characters": len(TEXT),  # fewer than the bytes: there is a dash in it
        "documents": 1,
        "copies": 0,
        "licence": "public domain",
        "requested": "tinyshakespeare",
    }


def test_python_docs_needs_no_network_and_joins_the_topics_by_blank_lines(download: Download):
    succeeded(download(corpus="python-docs"))
    text = CORPUS.read_bytes().decode()
    first, *_, last = sorted(topics)
    assert text.startswith(topics[first] + "\n\n")
    assert text.endswith("\n\n" + topics[last])
    assert len(text) == sum(map(len, topics.values())) + 2 * (len(topics) - 1)
    output = provenance()
    assert (output["name"], output["source"], output["requested"]) == ("python-docs", "built-in", "python-docs")
    assert "warning" not in output


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        pytest.param({"a.txt": "one\r\n"}, "one\r\n", id="one file, its line ends kept"),
        pytest.param(
            {"b.txt": "three\n", "a/z.txt": "two\n", "a/b/c.txt": "one\n", "a/notes.md": "not a text"},
            "one\n\n\ntwo\n\n\nthree\n",
            id="folders, in the order of their paths",
        ),
    ],
)
def test_own_texts_are_joined_by_blank_lines(download: Download, texts: dict[str, str], joined: str):
    for name, text in texts.items():
        put(Path("data/own", name), text)
    succeeded(download(corpus="own", licence="mine"))
    assert CORPUS.read_bytes().decode() == joined
    output = provenance()
    assert (output["name"], output["source"], output["licence"], output["requested"]) == ("own", "own", "mine", "own")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        pytest.param(
            {},
            "data/own/ has no file of a supported type (.jsonl, .ndjson",
            id="no folder",
        ),
        pytest.param({"README.md": b"words"}, "data/own/ has no file of a supported type", id="no text"),
        pytest.param({"a.txt": b"fine", "b.txt": b"one\ntwo\xff"}, "b.txt is not UTF-8: byte 7 (line 2)", id="latin-1"),
        pytest.param({"a.txt": b""}, "data/own/ has no file of a supported type", id="empty"),
    ],
)
def test_own_texts_that_cannot_be_used_are_named(download: Download, own: dict[str, bytes], message: str):
    for name, content in own.items():
        put(Path("data/own", name), content)
    result = download(corpus="own")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not CORPUS.exists()


ADDRESS = "https://127.0.0.1:1/words.txt"


@pytest.mark.parametrize(
    ("url", "sha256", "message"),
    [
        pytest.param(None, SUM, "url is None", id="no address"),
        pytest.param(
            CLOSED, SUM, f"url is '{CLOSED}', but corpus is 'url': set it to an address that begins", id="http"
        ),
        pytest.param("file:///etc/hostname", SUM, "begins with https://", id="file"),
        pytest.param(ADDRESS, None, "sha256 is None", id="no sum"),
        pytest.param(ADDRESS.replace("//", "//me:pw@"), SUM, f"url is {ADDRESS} with a user name", id="a password"),
        pytest.param(ADDRESS, SUM[:-1], "64 digits", id="a short sum"),
        pytest.param(ADDRESS, SUM.upper(), "64 digits of 0-9 and a-f", id="capital letters"),
    ],
)
def test_an_address_needs_https_and_a_sum(download: Download, url: str | None, sha256: str | None, message: str):
    result = download(corpus="url", url=url, sha256=sha256)
    assert result.exit_code == 2
    assert "params.yaml: download" in result.stderr
    assert message in result.stderr


@pytest.mark.parametrize(("name", "shown"), [(None, "url"), ("Große Texte", "Große Texte")])
def test_a_text_from_an_address_can_be_named(name: str | None, shown: str):
    assert corpora.pinned_corpus(DownloadParams(corpus="url", url=ADDRESS, sha256=SUM, name=name)).name == shown


def test_an_address_that_cannot_be_reached_is_named(download: Download):
    result = download(corpus="url", url=ADDRESS, sha256=SUM)
    assert result.exit_code == 1
    assert ADDRESS in result.stderr


def test_a_substitute_text_is_announced_with_a_warning(download: Download):
    output = succeeded(download(when_unreachable="python-docs"))
    assert "USING ANOTHER TEXT: python-docs" in output
    assert "instead of tinyshakespeare" in output
    assert "dvc repro -f download && dvc repro" in output
    told = provenance()
    assert (told["name"], told["source"], told["requested"]) == ("python-docs", "built-in", "tinyshakespeare")
    assert "tinyshakespeare could not be fetched" in str(told["warning"])
    assert "dvc repro -f download && dvc repro" in str(told["warning"])
    assert told["sha256"] == files.sha256(CORPUS)


def test_fail_names_every_place_and_leaves_nothing(download: Download, tmp_path: Path):
    result = download(when_unreachable="fail")
    assert result.exit_code == 1
    assert f"{tmp_path / MIRRORED}: no such file" in result.stderr
    assert f"{CLOSED}: " in result.stderr
    assert "refused" in result.stderr
    assert "FOLIO_MIRROR" in result.stderr  # what to do about it
    assert not list(tmp_path.glob("data/raw/*"))


def test_a_verified_text_survives_a_lost_network(download: Download):
    put(MIRRORED, TEXT)
    succeeded(download())
    MIRRORED.unlink()
    before = CORPUS.stat(), PROVENANCE.stat()
    assert "is up to date: its sha256 is the expected one" in succeeded(download())
    assert (CORPUS.stat().st_mtime_ns, PROVENANCE.stat().st_mtime_ns) == tuple(stat.st_mtime_ns for stat in before)


def test_a_substitute_gives_way_to_the_real_text(download: Download):
    succeeded(download(when_unreachable="python-docs"))
    put(MIRRORED, TEXT)
    succeeded(download(when_unreachable="python-docs"))
    assert CORPUS.read_bytes() == TEXT.encode()
    assert provenance()["name"] == "tinyshakespeare"
    assert "warning" not in provenance()


def test_another_corpus_replaces_the_one_that_is_there(download: Download):
    put(MIRRORED, TEXT)
    put(Path("data/own/a.txt"), "mine\n")
    for corpus, text in (("own", "mine\n"), ("tinyshakespeare", TEXT), ("own", "mine\n")):
        succeeded(download(corpus=corpus))
        assert CORPUS.read_bytes() == text.encode()
        assert provenance()["name"] == corpus


@pytest.mark.parametrize(
    ("path", "damage"),
    [
        pytest.param(CORPUS, TEXT.replace("winter", "wintes").encode(), id="a letter flipped"),
        pytest.param(CORPUS, TEXT.encode()[:20], id="cut off"),
        pytest.param(CORPUS, None, id="lost"),
        pytest.param(PROVENANCE, None, id="without its provenance"),
        pytest.param(PROVENANCE, b"{", id="with half a provenance"),
        pytest.param(PROVENANCE, b"[]", id="with another provenance"),
    ],
)
def test_a_damaged_text_is_fetched_again(download: Download, path: Path, damage: bytes | None):
    put(MIRRORED, TEXT)
    succeeded(download())
    whole = provenance()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    succeeded(download())
    assert CORPUS.read_bytes() == TEXT.encode()
    assert provenance() == whole


def test_another_licence_reaches_corpus_json_though_the_text_is_kept(download: Download):
    put(CORPUS, TEXT)
    old = Provenance(
        name="url", source="url", sha256=SUM, bytes=len(TEXT.encode()), characters=len(TEXT), documents=1, copies=0,
        licence="unknown", requested="url",
    )  # fmt: skip
    put(PROVENANCE, json.dumps(old.as_dict()))
    succeeded(download(corpus="url", url=ADDRESS, sha256=SUM, licence="CC0-1.0"))
    assert provenance()["licence"] == "CC0-1.0"


def test_a_corpus_json_of_an_earlier_version_is_written_again(download: Download):
    put(MIRRORED, TEXT)
    succeeded(download())
    current = provenance()
    put(PROVENANCE, json.dumps({name: value for name, value in current.items() if name != "copies"}))
    succeeded(download())
    assert provenance() == current


def test_what_was_there_stays_whole_when_fetching_fails(download: Download, tmp_path: Path):
    put(Path("data/own/a.txt"), "mine\n")
    succeeded(download(corpus="own"))
    before = {path: path.read_bytes() for path in tmp_path.glob("data/raw/*")}
    put(MIRRORED, TEXT[:-1])
    assert download().exit_code == 1
    assert {path: path.read_bytes() for path in tmp_path.glob("data/raw/*")} == before


@pytest.mark.parametrize("was_there", [False, True])
def test_a_full_disk_ends_in_one_line_and_leaves_no_half_text(
    download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_there: bool
):
    put(MIRRORED, TEXT)
    if was_there:
        put(CORPUS, "the text before\n")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "_sync", full)
    result = download()
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr.splitlines()[-1]
    left = {path.name: path.read_text() for path in tmp_path.glob("data/raw/*")}
    assert left == ({"corpus.txt": "the text before\n"} if was_there else {})


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.txt", "one\ntw\0o\n", "a.txt is not a text: line 2 of it has a NUL character, a byte of zero"),
        (
            "a.jsonl",
            '{"text": "1\\n2"}\n{"text": "tw\\u0000o"}\n',
            "a.jsonl, row 2 is not a text: line 1 of it has a NUL character, a byte of zero",
        ),
    ],
)
def test_zero_bytes_are_refused_unless_asked_for(download, name, content, place):
    put(Path("data/own") / name, content)
    result = download(corpus="own")
    assert result.exit_code == 2
    assert place in result.stderr
    assert not CORPUS.exists()
    succeeded(download(corpus="own", allow_zero_bytes=True))
    assert "tw\0o" in CORPUS.read_text()
    assert read_text(CORPUS).count("\0") == 1  # and `tokenize` reads it


@pytest.mark.parametrize("allow_zero_bytes", [True, False])
def test_a_text_of_white_space_is_refused(download, allow_zero_bytes):
    for name in ("a.txt", "b.txt"):
        put(Path("data/own", name), " \n\t\r\n")
    result = download(corpus="own", allow_zero_bytes=allow_zero_bytes)
    assert result.exit_code == 2
    assert "the text has only spaces and line breaks; add text to it" in result.stderr
    assert not CORPUS.exists()
