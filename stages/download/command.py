"""The download stage: fetch a text and record where it came from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import click

from stages.core.documents import SINGLE_DOCUMENT, write_documents
from stages.core.errors import DownloadError, TextError
from stages.core.files import sha256, write_json
from stages.core.logs import log, progress_bar, start_log, track_progress
from stages.core.options import FolioCommand, OutputPath, folder_option, params_option
from stages.core.params import read_section
from stages.core.project import log_next_steps
from stages.core.records import Provenance, read_record
from stages.core.text_files import decode_file
from stages.download.corpora import how_to_fetch, pinned_corpus, python_docs, substitute_warning
from stages.download.corpus_writer import write_corpus
from stages.download.fetching import fetch
from stages.download.own_files import MAX_NAMES_IN_MESSAGE, DocumentChunk, read_own_files
from stages.download.params import DownloadParams


@click.command(name="download", cls=FolioCommand)
@params_option
@folder_option("--own", "own_folder", "data/own", "The folder of your own texts, used if download.corpus is 'own'.")
@click.option(
    "--corpus",
    "corpus_path",
    type=OutputPath(dir_okay=False),
    default="data/raw/corpus.txt",
    show_default=True,
    help="The file for the text; its provenance and the table of its documents are written beside it.",
)
def command(params_path: Path, own_folder: Path, corpus_path: Path) -> None:
    """Fetch the text that `download:` in params.yaml names.

    A text that is already there with the right digest is kept. If FOLIO_MIRROR is set to a folder or an address, it is
    tried first, so that a machine without internet access can use the real text.

    Example: FOLIO_MIRROR=/srv/texts folio download
    """
    start_log("download")
    params = read_section(params_path, "download", DownloadParams)
    if is_up_to_date(params, corpus_path):
        write_documents(corpus_path, [SINGLE_DOCUMENT])
        update_licence(corpus_path.with_suffix(".json"), pinned_corpus(params).licence)
        log.info("%s is up to date: its sha256 is the expected one", corpus_path)
        return
    resolved = resolve_corpus(params, own_folder)
    documents = refuse_blank_text(resolved.chunks)
    if not params.allow_zero_bytes:
        documents = refuse_zero_bytes(documents)
    with progress_bar() as progress:
        task = progress.add_task("download", total=None, note="characters")
        chunks = track_progress(documents, lambda chunk: progress.advance(task, len(chunk.text)))
        corpus = write_corpus(chunks, corpus_path)
    for copy, original in corpus.copies[:MAX_NAMES_IN_MESSAGE]:
        log.warning("%s is left out, because it equals %s", copy, original)
    if len(corpus.copies) > MAX_NAMES_IN_MESSAGE:
        log.warning("%d documents are left out, because they equal earlier ones", len(corpus.copies))
    provenance = Provenance(
        name=resolved.name,
        source=resolved.source,
        sha256=corpus.sha256,
        bytes=corpus.bytes,
        characters=corpus.characters,
        documents=len(corpus.documents),
        copies=len(corpus.copies),
        licence=resolved.licence,
        requested=resolved.requested,
        warning=substitute_warning(resolved.requested) if resolved.name != resolved.requested else None,
    )
    write_json(corpus_path.with_suffix(".json"), provenance.as_dict())
    log.info("%s: %d characters of %s", corpus_path, provenance.characters, provenance.name)
    log_next_steps("download", corpus_path, "folio tokenize")


def refuse_blank_text(chunks: Iterable[DocumentChunk]) -> Iterator[DocumentChunk]:
    """Yield documents unchanged, and check that they have a character that is not white space.

    Raises:
        TextError: at the end, if there are documents and none has such a character.
    """
    is_empty, is_blank = True, True
    for chunk in chunks:
        is_empty, is_blank = False, is_blank and not chunk.text.strip()
        yield chunk
    if is_blank and not is_empty:
        raise TextError("the text has only spaces and line breaks; add text to it")


def refuse_zero_bytes(chunks: Iterable[DocumentChunk]) -> Iterator[DocumentChunk]:
    """Yield documents unchanged, and check that none has a NUL character.

    Raises:
        TextError: if one has some.
    """
    line = 1
    for chunk in chunks:
        line = 1 if chunk.begins_document else line
        if (position := chunk.text.find("\0")) >= 0:
            line += chunk.text.count("\n", 0, position)
            raise TextError(
                f"{chunk.name} is not a text: line {line} of it has a NUL character, a byte of zero; remove such "
                "characters (from a text file: `tr -d '\\000' < FILE > NEW`), or set download.allow_zero_bytes "
                "to true if they belong there"
            )
        line += chunk.text.count("\n")
        yield chunk


@dataclass(frozen=True)
class ResolvedCorpus:
    """A corpus before it is written: its documents in chunks, and its provenance."""

    chunks: Iterable[DocumentChunk]
    name: str
    source: str
    licence: str
    requested: str


def resolve_corpus(params: DownloadParams, own_folder: Path) -> ResolvedCorpus:
    """Return the corpus that `download.corpus` names, or the substitute for it.

    Raises:
        DownloadError: if the text cannot be fetched and `download.when_unreachable` is `fail`.
    """
    if params.corpus == "python-docs":
        return built_in_corpus("python-docs")
    if params.corpus == "own":
        chunks = read_own_files(own_folder, params.column, params.sources, params.max_bytes)
        return ResolvedCorpus(chunks, params.name or "own", "own", params.licence, params.name or "own")
    pinned = pinned_corpus(params)
    try:
        content, source = fetch(pinned, params.max_bytes)
    except DownloadError as error:
        if params.when_unreachable == "fail":
            raise DownloadError(f"{error}. {how_to_fetch()}") from error
        log.warning("*" * 100)
        log.warning("%s", error)
        log.warning("USING ANOTHER TEXT: python-docs, which is built in, instead of %s.", pinned.name)
        log.warning("Its results cannot be compared with results on %s. %s", pinned.name, how_to_fetch())
        log.warning("*" * 100)
        return built_in_corpus(pinned.name)
    texts = decode_file(BytesIO(content), pinned.name)
    chunks = (DocumentChunk(text, index == 0, name=pinned.name) for index, text in enumerate(texts))
    return ResolvedCorpus(chunks, pinned.name, source, pinned.licence, pinned.name)


def built_in_corpus(requested: str) -> ResolvedCorpus:
    """Return python-docs, which needs no network, in place of the `requested` corpus."""
    licence = "PSF-2.0 (Python's documentation)"
    chunks = [DocumentChunk(python_docs(), begins_document=True)]
    return ResolvedCorpus(chunks, "python-docs", "built-in", licence, requested)


def update_licence(provenance_path: Path, licence: str) -> None:
    """Change the licence in a corpus.json whose text is kept, if params.yaml now has another one."""
    recorded = read_record(provenance_path, Provenance, "download")
    if recorded.licence != licence:
        write_json(provenance_path, recorded.model_copy(update={"licence": licence}).as_dict())


def is_up_to_date(params: DownloadParams, corpus_path: Path) -> bool:
    """Return whether the requested text is on disk with the expected digest, so that it need not be fetched."""
    if params.corpus not in ("tinyshakespeare", "url"):
        return False
    try:
        provenance = read_record(corpus_path.with_suffix(".json"), Provenance, "download")
        pinned = pinned_corpus(params)
        return provenance.name == pinned.name and sha256(corpus_path) == pinned.sha256
    except (OSError, TextError):
        return False
