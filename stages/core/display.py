"""What may be shown: text without control characters, and addresses without secrets."""

import re

# C0 but for tab, line feed and carriage return; DEL; C1. A terminal takes some of them for commands.
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
USER_INFO = re.compile(r"(?<=://)[^/?#\s'\"]*@")
QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\";,)]*")


def escape_controls(text: str) -> str:
    r"""Return a text with control characters written as \x1b and the like; tabs and line breaks remain."""
    return CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def hide_secrets(text: str) -> str:
    """Return a text whose addresses have no user name, password or query, any of which may be a secret."""
    return QUERY.sub(r"\1?…", USER_INFO.sub("", text))


def printable(message: str) -> str:
    """Return a message for a terminal or a log file; names of files may have parts that are not UTF-8."""
    return escape_controls(hide_secrets(message.encode(errors="backslashreplace").decode()))
