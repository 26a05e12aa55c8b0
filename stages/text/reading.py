"""Bytes to text, with errors that say where."""

from pathlib import Path

from stages.errors import TextError


def read_text(path: Path) -> str:
    """Read a UTF-8 file, byte-order mark and line ends kept.

    Raises:
        TextError: where it is missing, empty or not UTF-8.
    """
    try:
        return decode(path.read_bytes(), path)
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; `dvc repro download` fetches it") from None


def decode(content: bytes, path: Path) -> str:
    """Decode UTF-8, byte-order mark and line ends kept; `path` is for the message.

    Raises:
        TextError: naming the file, the line and the byte, where the content is empty or not UTF-8.
    """
    if not content:
        raise TextError(f"{path} is empty: there is nothing to learn from; give it a text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TextError(
            f"{path} is not UTF-8: byte {error.start} (line {line}) is 0x{content[error.start]:02x}; convert it, "
            f"for example with `iconv -f latin1 -t utf-8`"
        ) from None
