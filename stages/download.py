"""download: a text, and where it came from."""

import hashlib
import json
from pathlib import Path

import click

from stages import files
from stages.command import StageCommand, folder_option, output_file_option, params_option
from stages.errors import DownloadError, TextError
from stages.logs import log, start_log
from stages.params.base import read_section
from stages.params.download import DownloadParams
from stages.text.corpora import Provenance, how_to_fetch, own_text, pinned, python_docs
from stages.text.fetching import fetch
from stages.text.reading import decode


@click.command(name="download", cls=StageCommand)
@params_option
@folder_option("--own", "own", "data/own", "The folder of your own .txt files; read where download.corpus is 'own'.")
@output_file_option(
    "--corpus",
    "corpus_path",
    "data/raw/corpus.txt",
    "Where the text goes; corpus.json, which says where it came from, goes beside it.",
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
        correct_licence(corpus_path.with_suffix(".json"), pinned(params).licence)
        log.info("%s is there already and its sha256 holds", corpus_path)
        return
    content, provenance = obtain(params, own)
    files.write_bytes(corpus_path, content)
    files.write_json(corpus_path.with_suffix(".json"), provenance.as_dict())
    log.info("%s: %d characters of %s", corpus_path, provenance.characters, provenance.name)


def obtain(params: DownloadParams, own: Path) -> tuple[bytes, Provenance]:
    """Give the text's bytes and their provenance.

    Raises:
        DownloadError: where the text can be had from nowhere and `when_unreachable` is `fail`.
        TextError: where the text is empty or not UTF-8.
    """
    if params.corpus == "python-docs":
        return built_in("python-docs")
    if params.corpus == "own":
        return describe(own_text(own), "own", "own", params.licence, "own")
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
    return describe(content, corpus.name, source, corpus.licence, corpus.name)


def built_in(requested: str) -> tuple[bytes, Provenance]:
    """Give the corpus that needs no network."""
    licence = "PSF-2.0 (Python's documentation)"
    return describe(python_docs().encode(), "python-docs", "built-in", licence, requested)


def describe(content: bytes, name: str, source: str, licence: str, requested: str) -> tuple[bytes, Provenance]:
    """Give `content` with its provenance."""
    characters = len(decode(content, Path(name)))
    digest = hashlib.sha256(content).hexdigest()
    return content, Provenance(name, source, digest, len(content), characters, licence, requested)


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


if __name__ == "__main__":
    command()
