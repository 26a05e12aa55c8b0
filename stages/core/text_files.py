"""Read UTF-8 text files in chunks, with errors that name the place."""

import codecs
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stages.core.errors import TextError

CHUNK_BYTES = 8 << 20
SAMPLE_BYTES = 4096
BOM = "\ufeff"
COMPRESSION_SUFFIXES = {".gz", ".bz2", ".xz", ".zst"}
# The first bytes of files that are not text, and what these are.
BINARY_KINDS = {
    b"%PDF": "a PDF", b"PK\x03\x04": "a ZIP archive (as are DOCX, XLSX and EPUB)", b"\x1f\x8b": "a gzip file",
    b"\xfd7zXZ": "an xz file", b"\x28\xb5\x2f\xfd": "a Zstandard file", b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture", b"\xd0\xcf\x11\xe0": "an old Office document", b"\x7fELF": "a program",
}  # fmt: skip
HOW_TO_DOWNLOAD = "`dvc repro download` fetches it"


class Utf8Decoder:
    """Decode a UTF-8 text chunk by chunk; the byte-order mark and line endings are kept.

    Args:
        path: path of the text, for error messages.
    """

    def __init__(self, path: Path | str) -> None:
        self.path, self.bytes_read, self.lines_read = path, 0, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def decode(self, content: bytes, final: bool = False) -> str:
        """Return the text of the next chunk; a character that the chunk cuts comes with the next one.

        Raises:
            TextError: if the text is not UTF-8; the message names the file, the line and the byte.
        """
        if not self.bytes_read:
            self._check_encoding(content)
        pending = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(content, final)
        except UnicodeDecodeError as error:
            buffer = pending + content
            position = self.bytes_read - len(pending) + error.start
            line = self.lines_read + buffer.count(b"\n", 0, error.start) + 1
            raise TextError(
                f"{self.path} is not UTF-8: byte {position} (line {line}) is 0x{buffer[error.start]:02x}; convert it, "
                f"for example from Latin-1: `{conversion_command('latin1', self.path)}`"
            ) from None
        self.bytes_read += len(content)
        self.lines_read += content.count(b"\n")
        return text

    def _check_encoding(self, content: bytes) -> None:
        """Raise an error if the beginning of the text is UTF-16 or UTF-32, or that of a file of another kind."""
        for beginning, kind in BINARY_KINDS.items():
            if content.startswith(beginning):
                raise TextError(f"{self.path} is {kind}, not a text; extract its text, and save it in UTF-8")
        encoding = guess_wide_encoding(content[:SAMPLE_BYTES])
        if encoding:
            command = conversion_command(encoding, self.path)
            raise TextError(f"{self.path} is {encoding}, not UTF-8; convert it: `{command}`")


def conversion_command(encoding: str, path: Path | str) -> str:
    """Return the shell command that converts a file to UTF-8 and keeps the original with another ending.

    Of other inputs, `path` is a description. A compressed file has to be decompressed first.
    """
    command = f"iconv -f {encoding} -t UTF-8"
    if not isinstance(path, Path) or path.suffix.lower() in COMPRESSION_SUFFIXES:
        return command
    old, kept = shlex.quote(str(path)), shlex.quote(f"{path}.original")
    return f"mv {old} {kept} && {command} {kept} > {old}"


def guess_wide_encoding(content: bytes) -> str | None:
    """Return the name of UTF-16 or UTF-32 if the text is in one of them, by its byte-order mark or its zero bytes."""
    for mark, name in (
        (codecs.BOM_UTF32_LE, "UTF-32"),  # its first bytes are those of UTF-16
        (codecs.BOM_UTF32_BE, "UTF-32"),
        (codecs.BOM_UTF16_LE, "UTF-16"),
        (codecs.BOM_UTF16_BE, "UTF-16"),
    ):
        if content.startswith(mark):
            return name
    shares = [content[offset::4].count(0) / max(1, len(content[offset::4])) for offset in range(4)]  # of zero bytes
    if min(shares[:2]) > 0.9:
        return "UTF-32BE"
    if min(shares[2:]) > 0.9:
        return "UTF-32LE"
    # In most scripts, the upper byte of many characters is zero, and the lower one almost never.
    if min(shares[::2]) > 0.3 and max(shares[1::2]) < 0.05:
        return "UTF-16BE"
    if min(shares[1::2]) > 0.3 and max(shares[::2]) < 0.05:
        return "UTF-16LE"
    return None


def decode_file(file: BinaryIO, path: Path | str, may_be_empty: bool = False) -> Iterator[str]:
    """Yield the text of an open UTF-8 file in chunks; `path` is for error messages.

    Raises:
        TextError: if the file is not UTF-8, or is empty and may not be.
    """
    decoder = Utf8Decoder(path)
    while content := file.read(CHUNK_BYTES):
        yield decoder.decode(content)
    if not decoder.bytes_read and not may_be_empty:
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
    """Return the whole text of a UTF-8 file, or of standard input if the path is -, without a byte-order mark.

    See `read_chunks`.
    """
    chunks = decode_file(sys.stdin.buffer, "standard input") if str(path) == "-" else read_chunks(path, hint)
    return "".join(chunks).removeprefix(BOM)
