"""The texts that Folio knows, and how a user's own is read."""

from dataclasses import asdict, dataclass

from stages.download.params import DownloadParams

PUBLIC_DOMAIN = "public domain"


@dataclass(frozen=True)
class Pinned:
    """A text on the internet that is known to the byte.

    `mirror_path` is where a mirror keeps it, below the folder or address in FOLIO_MIRROR.
    """

    name: str
    url: str
    sha256: str
    licence: str
    mirror_path: str | None = None


@dataclass(frozen=True)
class Provenance:
    """What corpus.json says: the same wherever the text was fetched from."""

    name: str
    source: str  # url, mirror, own or built-in
    sha256: str
    bytes: int
    characters: int
    documents: int
    licence: str
    requested: str

    def as_dict(self) -> dict[str, str | int]:
        """Give what is written to corpus.json; a substitute says so in words."""
        values: dict[str, str | int] = asdict(self)
        if self.name != self.requested:
            values["warning"] = (
                f"This is a substitute: {self.requested} could not be fetched. Figures from this text compare with "
                f"nothing. {how_to_fetch()}"
            )
        return values


TINYSHAKESPEARE = Pinned(
    name="tinyshakespeare",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    licence=PUBLIC_DOMAIN,
    mirror_path="tinyshakespeare/input.txt",
)


def how_to_fetch() -> str:
    """Say how to get the text that was asked for, once it can be had (DVC takes the stage for done)."""
    return "Once the text can be reached, run `dvc repro -f download && dvc repro`; or name a mirror in FOLIO_MIRROR."


def pinned(params: DownloadParams) -> Pinned:
    """Give the text on the internet that `download.corpus` names."""
    if params.corpus == "tinyshakespeare":
        return TINYSHAKESPEARE
    if params.corpus == "url" and params.url and params.sha256:
        return Pinned("url", params.url, params.sha256, params.licence)
    raise ValueError(f"{params.corpus} is not a text on the internet")


def python_docs() -> str:
    """Give the topics of Python's own help, sorted by name, joined by blank lines; they differ by version."""
    from pydoc_data.topics import topics  # half a megabyte that only this corpus needs

    return "\n\n".join(topics[name] for name in sorted(topics))
