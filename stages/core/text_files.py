"""Bytes to text, piece by piece, with errors that say where."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stages.core.errors import TextError

PIECE = 8 << 20  # bytes
DOWNLOAD = "`dvc repro download` fetches it"


class Decoder:
    """Decodes the pieces of one UTF-8 text in turn, byte-order mark and line ends kept; `path` is for messages."""

    def __init__(self, path: Path | str) -> None:
        self.path, self.bytes, self.lines = path, 0, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def decode(self, content: bytes, final: bool = False) -> str:
        """Decode the next piece; a character that it cuts comes with the one after.

        Raises:
            TextError: naming the file, the line and the byte, where it is not UTF-8.
        """
        waiting = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(content, final)
        except UnicodeDecodeError as error:
            whole = waiting + content
            byte = self.bytes - len(waiting) + error.start
            line = self.lines + whole.count(b"\n", 0, error.start) + 1
            raise TextError(
                f"{self.path} is not UTF-8: byte {byte} (line {line}) is 0x{whole[error.start]:02x}; convert it, "
                f"for example with `iconv -f latin1 -t utf-8`"
            ) from None
        self.bytes += len(content)
        self.lines += content.count(b"\n")
        return text


def decoded(file: BinaryIO, path: Path | str) -> Iterator[str]:
    """Read an open file as UTF-8, in pieces; `path` is for messages.

    Raises:
        TextError: where it is empty or not UTF-8.
    """
    decoder = Decoder(path)
    while content := file.read(PIECE):
        yield decoder.decode(content)
    if not decoder.bytes:
        raise TextError(f"{path} is empty: there is nothing to learn from; give it a text")
    yield decoder.decode(b"", final=True)


def read_pieces(path: Path, hint: str) -> Iterator[str]:
    """Read a UTF-8 file in pieces, so that its size does not matter; `hint` says what to do where it is missing.

    Raises:
        TextError: where it is missing, empty or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            yield from decoded(file, path)
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; {hint}") from None


def read_text(path: Path, hint: str = "check its path") -> str:
    """Read a UTF-8 file whole; see `read_pieces`."""
    return "".join(read_pieces(path, hint))
