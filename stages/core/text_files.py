"""Read UTF-8 text files in chunks, with errors that name the place."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stages.core.errors import TextError

CHUNK_BYTES = 8 << 20
HOW_TO_DOWNLOAD = "`dvc repro download` fetches it"


class Utf8Decoder:
    """Decode a UTF-8 text chunk by chunk; the byte-order mark and line endings are kept.

    Args:
        path: of the text, for error messages.
    """

    def __init__(self, path: Path | str) -> None:
        self.path, self.bytes_read, self.lines_read = path, 0, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def decode(self, content: bytes, final: bool = False) -> str:
        """Return the text of the next chunk; a character that the chunk cuts comes with the next one.

        Raises:
            TextError: if the text is not UTF-8; the message names the file, the line and the byte.
        """
        pending = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(content, final)
        except UnicodeDecodeError as error:
            buffer = pending + content
            position = self.bytes_read - len(pending) + error.start
            line = self.lines_read + buffer.count(b"\n", 0, error.start) + 1
            raise TextError(
                f"{self.path} is not UTF-8: byte {position} (line {line}) is 0x{buffer[error.start]:02x}; convert it, "
                f"for example with `iconv -f latin1 -t utf-8`"
            ) from None
        self.bytes_read += len(content)
        self.lines_read += content.count(b"\n")
        return text


def decode_file(file: BinaryIO, path: Path | str) -> Iterator[str]:
    """Yield the text of an open UTF-8 file in chunks; `path` is for error messages.

    Raises:
        TextError: if the file is empty or not UTF-8.
    """
    decoder = Utf8Decoder(path)
    while content := file.read(CHUNK_BYTES):
        yield decoder.decode(content)
    if not decoder.bytes_read:
        raise TextError(f"{path} is empty; add text to it")
    yield decoder.decode(b"", final=True)


def read_chunks(path: Path, hint: str) -> Iterator[str]:
    """Yield the text of a UTF-8 file in chunks, so that a text may be larger than memory.

    Args:
        path: the file.
        hint: what to do if the file is missing, for the error message.

    Raises:
        TextError: if the file is missing, empty or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            yield from decode_file(file, path)
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; {hint}") from None


def read_text(path: Path, hint: str = "check the path") -> str:
    """Return the whole text of a UTF-8 file; see `read_chunks`."""
    return "".join(read_chunks(path, hint))
