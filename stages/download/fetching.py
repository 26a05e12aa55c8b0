"""One text from the internet or a mirror: bounded in time and size, and known by its sum before it has a name."""

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pooch
import requests
from requests.adapters import HTTPAdapter
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from urllib3.util.retry import Retry

from stages.core.errors import DownloadError
from stages.core.logs import console, log
from stages.download.corpora import Pinned

ANSWER_SECONDS = 18.0  # for all places together, until one of them answers
CONNECT_SECONDS = 3.0
STALL_SECONDS = 5.0
pooch.get_logger().setLevel("WARNING")  # what is fetched from where is said here
RETRIES = Retry(total=3, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)


def fetch(corpus: Pinned, max_bytes: int) -> tuple[bytes, str]:
    """Try the mirror, then the text's own address; give the content and `mirror` or `url`.

    Raises:
        DownloadError: naming every place tried and why it failed.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    failures = []
    waiting = places(corpus)
    while waiting:
        share = (deadline - time.monotonic()) / len(waiting)  # a silent mirror leaves time for the text's own address
        source, place = waiting.pop(0)
        try:
            content = _fetch_from(place, corpus.sha256, max_bytes, share)
        except (DownloadError, OSError, requests.RequestException, ValueError) as error:
            failures.append(f"{_shown(place)}: {_reason(error)}")
        else:
            log.info("fetched %s from %s", corpus.name, _shown(place))
            return content, source
    raise DownloadError(f"{corpus.name} could not be fetched. Tried: " + "; ".join(failures))


def places(corpus: Pinned) -> list[tuple[str, str]]:
    """List where a text may be had: (source, folder path or address), the mirror first."""
    mirror = os.environ.get("FOLIO_MIRROR", "")
    found = [("url", corpus.url)]
    if mirror and corpus.mirror_path:
        if _is_address(mirror):
            found.insert(0, ("mirror", urljoin(mirror.rstrip("/") + "/", corpus.mirror_path)))
        else:
            root = Path(os.environ.get("DVC_ROOT", "."))  # queued experiments run in a copy elsewhere
            found.insert(0, ("mirror", str((root / mirror / corpus.mirror_path).absolute())))
    return found


def _fetch_from(place: str, sha256: str, max_bytes: int, seconds: float) -> bytes:
    if not _is_address(place):
        return _read_checked(Path(place), sha256)
    answered = threading.Event()

    def work() -> bytes:
        return _download(place, sha256, max_bytes, answered)

    return _in_time(work, answered, seconds)


def _read_checked(path: Path, sha256: str) -> bytes:
    if not pooch.file_hash(str(path)) == sha256:
        raise DownloadError(f"its sha256 is not {sha256}")
    return path.read_bytes()


def _download(url: str, sha256: str, max_bytes: int, answered: threading.Event) -> bytes:
    """Let pooch keep the temporary file and check the sum; the transfer itself is `_transfer`."""
    from tempfile import TemporaryDirectory

    def transfer(url: str, output_file: str, _pooch: object) -> None:
        _transfer(url, Path(output_file), max_bytes, answered)

    with TemporaryDirectory() as folder:
        try:
            path = pooch.retrieve(url, f"sha256:{sha256}", "text", folder, downloader=transfer)
        except requests.RequestException:  # some are ValueErrors as well
            raise
        except ValueError as error:
            raise DownloadError(f"what came is not the text: its sha256 is not {sha256}") from error
        return Path(path).read_bytes()


def _transfer(url: str, path: Path, max_bytes: int, answered: threading.Event) -> None:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
    with (
        session.get(url, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)) as response,
        path.open("wb") as file,
    ):
        _check_scheme(url, response)
        response.raise_for_status()
        answered.set()
        said = response.headers.get("Content-Length", "")
        length = int(said) if said.isdigit() else None
        if "text/html" in response.headers.get("Content-Type", ""):
            raise DownloadError("an HTML page came instead of the text (a proxy's or login page?)")
        with _progress() as progress:
            task = progress.add_task(Path(urlsplit(url).path).name, total=length)
            received = 0
            for chunk in response.iter_content(1 << 16):
                received += len(chunk)
                if received > max_bytes:
                    raise DownloadError(f"more than download.max_bytes ({max_bytes}) came; raise it if that is right")
                file.write(chunk)
                progress.update(task, completed=received)
    if length is not None and received != length and "Content-Encoding" not in response.headers:
        raise DownloadError(f"{received} of {length} bytes came")


def _check_scheme(url: str, response: requests.Response) -> None:
    wanted, got = urlsplit(url).scheme, urlsplit(response.url).scheme
    if got != wanted and got != "https":
        raise DownloadError(f"the address redirects from {wanted} to {got}: {response.url}")


def _in_time(work: Callable[[], bytes], answered: threading.Event, seconds: float) -> bytes:
    """Run `work` in a thread, and leave it behind if nothing has answered in time.

    A thread, since looking up a name can block for longer than any time-out that requests knows of.
    """
    outcome: list[bytes | Exception] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)
        finally:
            answered.set()

    threading.Thread(target=run, daemon=True).start()
    if not answered.wait(max(0.0, seconds)):
        raise DownloadError(f"no answer within {seconds:.0f} s")
    while not outcome:
        time.sleep(0.02)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _is_address(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _shown(place: str) -> str:
    """Leave a name and password in an address out of what is said and logged."""
    return re.sub(r"//[^/@]*@", "//", place)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout):
        return "no answer in time"
    if "NameResolutionError" in str(error):
        return "its host's name cannot be resolved (is there a network?)"
    return " ".join(str(error).split())[:300]


def _progress() -> Progress:
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
