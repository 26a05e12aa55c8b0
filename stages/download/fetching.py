"""Fetch a text from a mirror or the internet, with limits on time and size, and verify its digest.

pooch stores the file and verifies the digest. The transfer is ours because `pooch.retrieve` has no limit on the total
time (name resolution included) or on the size, and does not retry; `tests/download/test_fetching.py` covers each.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pooch
import requests
import urllib3
from requests.adapters import HTTPAdapter
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from urllib3.util.retry import Retry

from stages.core.display import hide_secrets
from stages.core.errors import DownloadError
from stages.core.logs import console, log
from stages.core.project import project_root
from stages.download.corpora import PinnedCorpus

ANSWER_SECONDS = 18.0  # for all locations together, until one of them responds
CONNECT_SECONDS = 3.0
STALL_SECONDS = 5.0
SLOW_START_SECONDS, MIN_BYTES_PER_SECOND = 30.0, 1000.0
pooch.get_logger().setLevel("WARNING")  # Folio logs the download itself
RETRIES = Retry(total=3, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)


def fetch(corpus: PinnedCorpus, max_bytes: int) -> tuple[bytes, str]:
    """Return the content of a text and its source, `mirror` or `url`; the mirror is tried first.

    Raises:
        DownloadError: if no location has the text; the message names every location and why it failed.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    failures = []
    remaining = locations(corpus)
    share = ANSWER_SECONDS / len(remaining)
    while remaining:
        # A mirror that does not respond, or fails after a long transfer, must leave time for the original address.
        seconds = max(share, (deadline - time.monotonic()) / len(remaining))
        source, location = remaining.pop(0)
        try:
            content = _fetch_from(location, corpus.sha256, max_bytes, seconds)
        except (DownloadError, OSError, requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            failures.append(f"{location}: {_reason(error)}")
        else:
            log.info("fetched %s from %s", corpus.name, location)
            return content, source
    raise DownloadError(hide_secrets(f"{corpus.name} could not be fetched. Tried: " + "; ".join(failures)))


def locations(corpus: PinnedCorpus) -> list[tuple[str, str]]:
    """Return where a text may be found, as (source, path or address) pairs, the mirror first."""
    mirror = os.environ.get("FOLIO_MIRROR", "")
    pairs = [("url", corpus.url)]
    if mirror and corpus.mirror_path:
        if _is_address(mirror):
            pairs.insert(0, ("mirror", urljoin(mirror.rstrip("/") + "/", corpus.mirror_path)))
        else:
            pairs.insert(0, ("mirror", str((project_root() / mirror / corpus.mirror_path).absolute())))
    return pairs


def _fetch_from(location: str, sha256: str, max_bytes: int, seconds: float) -> bytes:
    if not _is_address(location):
        return _read_verified(Path(location), sha256)
    responded = threading.Event()

    def work() -> bytes:
        return _download(location, sha256, max_bytes, responded)

    return _run_with_deadline(work, responded, seconds)


def _read_verified(path: Path, sha256: str) -> bytes:
    if path.exists() and not path.is_file():
        raise DownloadError("it is not a file")
    if not pooch.file_hash(str(path)) == sha256:
        raise DownloadError(f"its sha256 is not {sha256}")
    return path.read_bytes()


def _download(url: str, sha256: str, max_bytes: int, responded: threading.Event) -> bytes:
    """Download with pooch, which verifies the digest; `_transfer` does the transfer."""
    from tempfile import TemporaryDirectory

    def transfer(url: str, output_file: str, _pooch: object) -> None:
        _transfer(url, Path(output_file), max_bytes, responded)

    with TemporaryDirectory() as folder:
        try:
            path = pooch.retrieve(url, f"sha256:{sha256}", "text", folder, downloader=transfer)
        except requests.RequestException:  # some of them are ValueErrors
            raise
        except ValueError as error:
            raise DownloadError(f"the downloaded file is not the text: its sha256 is not {sha256}") from error
        return Path(path).read_bytes()


def _transfer(url: str, path: Path, max_bytes: int, responded: threading.Event) -> None:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
    with (
        session.get(url, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)) as response,
        path.open("wb") as file,
    ):
        _check_scheme(url, response)
        response.raise_for_status()
        responded.set()
        content_length = response.headers.get("Content-Length", "")
        length = int(content_length) if content_length.isdigit() else None
        if "text/html" in response.headers.get("Content-Type", ""):
            raise DownloadError("received an HTML page instead of the text (from a proxy or a login page?)")
        with _progress() as progress:
            task = progress.add_task(Path(urlsplit(url).path).name, total=length)
            received = 0
            start = time.monotonic()
            # Not iter_content, which waits for whole chunks, however slowly they come.
            while chunk := response.raw.read1(1 << 16, decode_content=True):
                received += len(chunk)
                seconds = time.monotonic() - start
                if received < MIN_BYTES_PER_SECOND * (seconds - SLOW_START_SECONDS):
                    raise DownloadError(f"only {received} bytes came in {seconds:.0f} s")
                if received > max_bytes:
                    raise DownloadError(
                        f"the text is larger than download.max_bytes ({max_bytes}); increase it if that is expected"
                    )
                file.write(chunk)
                progress.update(task, completed=received)
    if length is not None and received != length and "Content-Encoding" not in response.headers:
        raise DownloadError(f"received only {received} of {length} bytes")


def _check_scheme(url: str, response: requests.Response) -> None:
    requested = urlsplit(url).scheme
    for each in (*response.history, response):
        if urlsplit(each.url).scheme not in (requested, "https"):
            raise DownloadError(f"the address redirects from {requested} to http: {each.url}")


def _run_with_deadline(work: Callable[[], bytes], responded: threading.Event, seconds: float) -> bytes:
    """Run `work` in a thread and return its result; abandon it if there is no response in time.

    A thread is needed because name resolution can block longer than any time-out of requests.
    """
    outcome: list[bytes | Exception] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)
        finally:
            responded.set()

    threading.Thread(target=run, daemon=True).start()
    if not responded.wait(max(0.0, seconds)):
        raise DownloadError(f"no response within {seconds:.0f} s")
    while not outcome:
        time.sleep(0.02)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _is_address(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout | urllib3.exceptions.TimeoutError):
        return "no response in time"
    if "NameResolutionError" in str(error):
        return "the host name cannot be resolved (is there a network?)"
    return " ".join(str(error).split())[:300]


def _progress() -> Progress:
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
