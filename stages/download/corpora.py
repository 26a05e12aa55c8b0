"""The corpora that Folio knows."""

from dataclasses import dataclass

from stages.download.params import DownloadParams


@dataclass(frozen=True)
class PinnedCorpus:
    """A text on the internet with a known digest.

    Attributes:
        mirror_path: path of the text below FOLIO_MIRROR, or None if a mirror does not have it.
    """

    name: str
    url: str
    sha256: str
    licence: str
    mirror_path: str | None = None


TINYSHAKESPEARE = PinnedCorpus(
    name="tinyshakespeare",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    licence="public domain",
    mirror_path="tinyshakespeare/input.txt",
)


def how_to_fetch() -> str:
    """Return how to get the requested text later; DVC considers the stage finished until then."""
    return "When the text is reachable, run `dvc repro -f download && dvc repro`, or set FOLIO_MIRROR to a mirror."


def substitute_warning(requested: str) -> str:
    """Return what it means that the requested text could not be fetched."""
    return (
        f"This is a substitute: {requested} could not be fetched. Results on this text cannot be compared with results "
        f"on {requested}. {how_to_fetch()}"
    )


def pinned_corpus(params: DownloadParams) -> PinnedCorpus:
    """Return the text on the internet that `download.corpus` names.

    Raises:
        ValueError: if `download.corpus` does not name a text on the internet.
    """
    if params.corpus == "tinyshakespeare":
        return TINYSHAKESPEARE
    if params.corpus == "url" and params.url and params.sha256:
        return PinnedCorpus(params.name or "url", params.url, params.sha256, params.licence)
    raise ValueError(f"{params.corpus} is not a text on the internet")


def python_docs() -> str:
    """Return the topics of Python's built-in help, sorted by name; they differ between Python versions."""
    from pydoc_data.topics import topics  # half a megabyte that only this corpus needs

    return "\n\n".join(topics[name] for name in sorted(topics))
