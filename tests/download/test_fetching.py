"""fetch, against a server on this machine that can be told to misbehave; no test asks the internet for anything."""

import hashlib
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from gzip import compress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from stages.core.errors import DownloadError
from stages.download import fetching
from stages.download.corpora import PinnedCorpus
from stages.download.fetching import fetch, locations

TEXT = b"Now is the winter of our discontent\n" * 30
CLOSED = "http://127.0.0.1:1/words.txt"  # nothing listens on port 1: refused at once
MANY = 10**6

Answer = Callable[["Server", BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Gives the answers in `answers[path]` in turn, and the last of them for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Say nothing: that clients hang up is what the tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answers = self.server.answers.get(self.path, [sends(b"not here", 404)])
        (answers.pop(0) if len(answers) > 1 else answers[0])(self.server, self)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


def sends(body: bytes = TEXT, status: int = 200, **headers: str) -> Answer:
    """Answer with `body`; a header given as Content_Length replaces the true one."""

    def answer(_: Server, handler: BaseHTTPRequestHandler) -> None:
        named = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
        handler.send_response(status)
        for name, value in named.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def sends_in_parts(seconds: float, parts: int, text: bytes = TEXT) -> Answer:
    """Answer with a text, a pause of `seconds` before each of its parts but the first."""

    def answer(server: Server, handler: BaseHTTPRequestHandler) -> None:
        size = -(-len(text) // parts)
        sends(text[:size], Content_Length=str(len(text)))(server, handler)
        for start in range(size, len(text), size):
            server.closing.wait(seconds)
            handler.wfile.write(text[start : start + size])

    return answer


def stalls(after: bytes | None) -> Answer:
    """Say nothing at all, or send the headers and `after`, and then nothing more."""

    def answer(server: Server, handler: BaseHTTPRequestHandler) -> None:
        if after is not None:
            sends(after, Content_Length=str(len(TEXT)))(server, handler)
            handler.wfile.flush()
        server.closing.wait(10)

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the address of a socket that takes a connection and never looks at it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(autouse=True)
def alone_and_hurried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FOLIO_MIRROR", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetching, "RETRIES", fetching.RETRIES.new(backoff_factor=0.01))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def words(url: str = CLOSED, mirror_path: str | None = "words.txt") -> PinnedCorpus:
    return PinnedCorpus("words", url, hashlib.sha256(TEXT).hexdigest(), "CC0-1.0", mirror_path)


@pytest.mark.parametrize("base", ["", "/", "/texts", "/texts/"])
def test_the_mirror_is_tried_before_the_original_address(server: Server, monkeypatch: pytest.MonkeyPatch, base: str):
    server.answers = {f"{base.rstrip('/')}/words.txt": [sends()], "/own/words.txt": [sends()]}
    monkeypatch.setenv("FOLIO_MIRROR", server.address + base)
    assert fetch(words(f"{server.address}/own/words.txt"), MANY) == (TEXT, "mirror")
    assert server.asked == [f"{base.rstrip('/')}/words.txt"]


def test_the_original_address_is_used_without_a_mirror(server: Server):
    server.answers = {"/words.txt": [sends()]}
    assert fetch(words(f"{server.address}/words.txt"), MANY) == (TEXT, "url")


def test_a_text_that_no_mirror_keeps_is_sought_at_its_own_address_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOLIO_MIRROR", "/srv/texts")
    assert locations(words(mirror_path=None)) == [("url", CLOSED)]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([sends(b"busy", 500), sends(b"busy", 503), sends()], id="busy twice"),
        pytest.param([sends(b"", 302, Location="/moved.txt")], id="moved"),
        pytest.param([sends(compress(TEXT), Content_Encoding="gzip")], id="compressed"),
        pytest.param([sends(TEXT, Content_Type="text/plain; charset=utf-8")], id="declared as text"),
    ],
)
def test_a_text_comes_whole_although(server: Server, answers: list[Answer]):
    server.answers = {"/words.txt": answers, "/moved.txt": [sends()]}
    assert fetch(words(f"{server.address}/words.txt"), MANY) == (TEXT, "url")


BAD_ANSWERS = [
    pytest.param(sends(b"not here", 404), "404 Client Error", id="404"),
    pytest.param(sends(b"busy", 500), "500 Server Error", id="500 for ever"),
    pytest.param(sends(TEXT[:-50], Content_Length=str(len(TEXT))), "50 more expected|bytes came", id="short body"),
    pytest.param(sends(b"<html>Sign in!</html>", Content_Type="text/html; charset=utf-8"), "HTML page", id="HTML"),
    pytest.param(sends(TEXT[:-1] + b"!"), "sha256 is not", id="another text"),
    pytest.param(sends(TEXT * 1000), r"max_bytes \(1000000\)", id="too much"),
    pytest.param(sends(compress(TEXT * 1000), Content_Encoding="gzip"), r"max_bytes", id="too much once unpacked"),
    pytest.param(sends(b"", 302, Location="ftp://127.0.0.1/words.txt"), "ftp", id="redirect to ftp"),
    pytest.param(sends(b"", 302, Location="file:///etc/hostname"), "file:", id="redirect to a file"),
    pytest.param(sends(b"", 302, Location="/words.txt"), "redirects", id="redirect to itself"),
]


@pytest.mark.parametrize(("answer", "reason"), BAD_ANSWERS)
def test_a_bad_answer_is_refused_with_its_reason_and_leaves_no_file(
    server: Server, tmp_path: Path, answer: Answer, reason: str
):
    server.answers = {"/words.txt": [answer]}
    with pytest.raises(DownloadError) as error:
        fetch(words(f"{server.address}/words.txt"), MANY)
    assert re.search(rf"{server.address}/words\.txt: .*({reason})", str(error.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("answer", "reason"), BAD_ANSWERS)
def test_the_original_address_is_tried_after_a_bad_response_of_the_mirror(
    server: Server, monkeypatch: pytest.MonkeyPatch, answer: Answer, reason: str
):
    del reason
    server.answers = {"/words.txt": [answer], "/own/words.txt": [sends()]}
    monkeypatch.setenv("FOLIO_MIRROR", server.address)
    assert fetch(words(f"{server.address}/own/words.txt"), MANY) == (TEXT, "url")


def test_a_redirect_from_https_to_http_is_refused():
    response = requests.Response()
    response.url = "http://127.0.0.1/words.txt"
    with pytest.raises(DownloadError, match="redirects from https to http"):
        fetching._check_scheme("https://127.0.0.1/words.txt", response)


@pytest.mark.parametrize("after", [None, b"", TEXT[:100]], ids=["at once", "after the headers", "in the middle"])
def test_a_server_that_stalls_is_left(server: Server, monkeypatch: pytest.MonkeyPatch, after: bytes | None):
    monkeypatch.setattr(fetching, "STALL_SECONDS", 0.1)
    server.answers = {"/words.txt": [stalls(after)]}
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"/words\.txt: .*(timed out|in time)"):
        fetch(words(f"{server.address}/words.txt"), MANY)
    assert time.monotonic() - start < 10


def test_a_slow_text_may_take_longer_than_the_first_answer(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetching, "ANSWER_SECONDS", 1.0)
    server.answers = {"/words.txt": [sends_in_parts(0.3, parts=5)]}
    assert fetch(words(f"{server.address}/words.txt"), MANY) == (TEXT, "url")


def test_when_nothing_answers_all_places_together_take_no_longer_than_agreed(
    silent: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetching, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(fetching, "STALL_SECONDS", 2.4)
    monkeypatch.setenv("FOLIO_MIRROR", silent)
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"words\.txt: no response.*own\.txt: no response"):
        fetch(words(f"{silent}/own.txt"), MANY)
    assert 1.9 < time.monotonic() - start < 3.9  # less than twice as long as one place


def test_a_silent_mirror_leaves_time_for_the_texts_own_address(
    server: Server, silent: str, monkeypatch: pytest.MonkeyPatch
):
    # As at the real sizes: four attempts that stall take longer than all places may together (4 x 5 s against 18 s).
    monkeypatch.setattr(fetching, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(fetching, "STALL_SECONDS", 0.3)
    monkeypatch.setenv("FOLIO_MIRROR", silent)
    server.answers = {"/words.txt": [sends()]}
    assert fetch(words(f"{server.address}/words.txt"), MANY) == (TEXT, "url")


def test_a_mirror_that_fails_in_a_long_transfer_leaves_time_for_the_texts_own_address(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetching, "ANSWER_SECONDS", 1.2)
    monkeypatch.setenv("FOLIO_MIRROR", server.address)
    wrong = sends_in_parts(0.45, parts=4, text=TEXT[:-1] + b"?")
    server.answers = {"/words.txt": [wrong], "/own.txt": [sends(TEXT)]}
    assert fetch(words(f"{server.address}/own.txt"), MANY) == (TEXT, "url")


@pytest.mark.parametrize("how", ["absolute", "below the working directory", "below DVC_ROOT"])
def test_a_mirror_can_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/words.txt").write_bytes(TEXT)
    elsewhere = tmp_path / "copy"  # where DVC runs a queued experiment
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path if how == "below the working directory" else elsewhere)
    monkeypatch.setenv("FOLIO_MIRROR", str(tmp_path / "texts") if how == "absolute" else "texts")
    if how == "below DVC_ROOT":
        monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert fetch(words(), MANY) == (TEXT, "mirror")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(TEXT + b"\n", "sha256 is not", id="another text"),
    ],
)
def test_the_message_names_the_reason_for_every_location(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, reason: str
):
    if content is not None:
        (tmp_path / "words.txt").write_bytes(content)
    monkeypatch.setenv("FOLIO_MIRROR", str(tmp_path))
    with pytest.raises(DownloadError) as error:
        fetch(words(), MANY)
    message = str(error.value)
    assert message.startswith("words could not be fetched. Tried: ")
    assert re.search(rf"{tmp_path}/words\.txt: .*{reason}.*; {CLOSED}: .*refused", message)


def test_a_body_that_trickles_in_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetching, "SLOW_START_SECONDS", 0.3)
    monkeypatch.setattr(fetching, "MIN_BYTES_PER_SECOND", 10_000.0)
    server.answers = {"/words.txt": [sends_in_parts(0.05, len(TEXT))]}  # a byte every 50 ms
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"only \d+ bytes came in"):
        fetch(words(f"{server.address}/words.txt"), MANY)
    assert time.monotonic() - start < 10


def test_a_step_back_to_http_on_the_way_is_refused():
    hops = []
    for address in ("https://a/", "http://b/", "https://c/"):
        response = requests.Response()
        response.url = address
        hops.append(response)
    hops[-1].history = hops[:-1]
    with pytest.raises(DownloadError, match="redirects from https to http: http://b/"):
        fetching._check_scheme("https://a/", hops[-1])
    hops[-1].history = [hops[0]]
    fetching._check_scheme("https://a/", hops[-1])


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_mirror_that_is_no_file_is_refused_at_once(kind, tmp_path, monkeypatch):
    path = tmp_path / "words.txt"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
    monkeypatch.setenv("FOLIO_MIRROR", str(tmp_path))
    with pytest.raises(DownloadError, match=r"words\.txt: it is not a file"):
        fetch(words(), MANY)


@pytest.mark.parametrize("status", [401, 404, 500])
def test_no_message_shows_a_password_or_a_token(server: Server, monkeypatch, status, caplog):
    caplog.set_level("INFO", "folio")
    address = server.address.replace("//", "//me:pa55word@") + "/words.txt?token=t0ken"
    server.answers = {"/words.txt?token=t0ken": [sends(b"", status)]}
    with pytest.raises(DownloadError) as error:
        fetch(words(address), MANY)
    assert f"{server.address}/words.txt?…" in str(error.value)
    assert "pa55word" not in str(error.value) + caplog.text
    assert "t0ken" not in str(error.value) + caplog.text
