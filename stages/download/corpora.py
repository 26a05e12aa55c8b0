"""The corpora that Folio knows, and the provenance that is recorded for every corpus."""

from dataclasses import asdict, dataclass

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


@dataclass(frozen=True)
class Provenance:
    """The content of corpus.json.

    Attributes:
        source: url, mirror, own or built-in.
        copies: documents that were left out because they equal earlier ones.
        requested: name of the corpus in params.yaml; differs from `name` if a substitute was used.
    """

    name: str
    source: str
    sha256: str
    bytes: int
    characters: int
    documents: int
    copies: int
    licence: str
    requested: str

    def as_dict(self) -> dict[str, str | int]:
        """Return the content of corpus.json; a substitute has a warning."""
        values: dict[str, str | int] = asdict(self)
        if self.name != self.requested:
            values["warning"] = (
                f"This is a substitute: {self.requested} could not be fetched. Results on this text cannot be compared "
                f"with results on {self.requested}. {how_to_fetch()}"
            )
        return values


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


def pinned_corpus(params: DownloadParams) -> PinnedCorpus:
    """Return the text on the internet that `download.corpus` names.

    Raises:
        ValueError: if `download.corpus` does not name a text on the internet.
    """
    if params.corpus == "tinyshakespeare":
        return TINYSHAKESPEARE
    if params.corpus == "url" and params.url and params.sha256:
        return PinnedCorpus("url", params.url, params.sha256, params.licence)
    raise ValueError(f"{params.corpus} is not a text on the internet")


def python_docs() -> str:
    """Return the topics of Python's built-in help, sorted by name; they differ between Python versions."""
    from pydoc_data.topics import topics  # half a megabyte that only this corpus needs

    return "\n\n".join(topics[name] for name in sorted(topics))
