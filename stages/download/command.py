"""download: a text, and where it came from."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import click

from stages.core import files
from stages.core.documents import ONE, write_documents
from stages.core.errors import DownloadError, TextError
from stages.core.logs import log, progress_bar, start_log, watched
from stages.core.options import StageCommand, folder_option, output_file_option, params_option
from stages.core.params import read_section
from stages.core.text_files import decoded
from stages.download.corpora import Provenance, how_to_fetch, pinned, python_docs
from stages.download.fetching import fetch
from stages.download.own_files import Piece, own_pieces
from stages.download.params import DownloadParams
from stages.download.storage import store


@click.command(name="download", cls=StageCommand)
@params_option
@folder_option("--own", "own", "data/own", "The folder of your own texts; read where download.corpus is 'own'.")
@output_file_option(
    "--corpus",
    "corpus_path",
    "data/raw/corpus.txt",
    "Where the text goes; corpus.json (where it came from) and documents.npy (its documents) go beside it.",
)
def command(params_path: Path, own: Path, corpus_path: Path) -> None:
    """Fetch the text that `download:` in params.yaml names.

    A verified text that is already there is kept. Where FOLIO_MIRROR names a folder or an address, it is tried
    first, so that a machine without internet can have the real text.

    Example: FOLIO_MIRROR=/srv/texts folio download
    """
    start_log("download")
    params = read_section(params_path, "download", DownloadParams)
    if kept(params, corpus_path):
        write_documents(corpus_path, [ONE])
        correct_licence(corpus_path.with_suffix(".json"), pinned(params).licence)
        log.info("%s is there already and its sha256 holds", corpus_path)
        return
    found = obtain(params, own)
    with progress_bar() as progress:
        task = progress.add_task("download", total=None, note="characters")
        stored = store(watched(found.pieces, lambda piece: progress.advance(task, len(piece.text))), corpus_path)
    provenance = Provenance(
        found.name,
        found.source,
        stored.sha256,
        stored.bytes,
        stored.characters,
        len(stored.documents),
        found.licence,
        found.requested,
    )
    files.write_json(corpus_path.with_suffix(".json"), provenance.as_dict())
    log.info("%s: %d characters of %s", corpus_path, provenance.characters, provenance.name)
    log.info("next: folio tokenize")


@dataclass(frozen=True)
class Found:
    """A text before it is stored: its documents, in pieces, and what is known of them."""

    pieces: Iterable[Piece]
    name: str
    source: str
    licence: str
    requested: str


def obtain(params: DownloadParams, own: Path) -> Found:
    """Find the text.

    Raises:
        DownloadError: where the text can be had from nowhere and `when_unreachable` is `fail`.
    """
    if params.corpus == "python-docs":
        return built_in("python-docs")
    if params.corpus == "own":
        return Found(own_pieces(own, params.column, params.sources), "own", "own", params.licence, "own")
    corpus = pinned(params)
    try:
        content, source = fetch(corpus, params.max_bytes)
    except DownloadError as error:
        if params.when_unreachable == "fail":
            raise DownloadError(f"{error}. {how_to_fetch()}") from error
        log.warning("*" * 100)
        log.warning("%s", error)
        log.warning(
            "GOING ON WITH ANOTHER TEXT: python-docs, which is built in. It is not %s, and its figures",
            corpus.name,
        )
        log.warning("compare with nothing. %s", how_to_fetch())
        log.warning("*" * 100)
        return built_in(corpus.name)
    pieces = (Piece(text, index == 0) for index, text in enumerate(decoded(BytesIO(content), corpus.name)))
    return Found(pieces, corpus.name, source, corpus.licence, corpus.name)


def built_in(requested: str) -> Found:
    """Give the corpus that needs no network."""
    licence = "PSF-2.0 (Python's documentation)"
    return Found([Piece(python_docs(), begins=True)], "python-docs", "built-in", licence, requested)


def correct_licence(provenance_path: Path, licence: str) -> None:
    """Write down another licence of a text that is kept, where params.yaml now says another."""
    said = json.loads(provenance_path.read_text(encoding="utf-8"))
    if said["licence"] != licence:
        files.write_json(provenance_path, said | {"licence": licence})


def kept(params: DownloadParams, corpus_path: Path) -> bool:
    """Say whether the text asked for is there, whole: a verified file survives a lost network."""
    if params.corpus not in ("tinyshakespeare", "url"):
        return False
    try:
        provenance = json.loads(corpus_path.with_suffix(".json").read_text(encoding="utf-8"))
        wanted = pinned(params)
        return bool(provenance["name"] == wanted.name) and files.sha256(corpus_path) == wanted.sha256
    except (OSError, ValueError, KeyError, TypeError, TextError):
        return False
