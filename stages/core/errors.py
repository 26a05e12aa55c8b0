"""Every error that a user can cause or meet.

FolioError
├── InputError            exit code 2: what was given is wrong; nothing was done
│   ├── ParameterError    a key of params.yaml
│   ├── TextError         a text that cannot be used, or a character that is not known
│   └── ModelError        a folder that holds no usable model
├── WorkError             exit code 1: the input was right, the work failed
│   └── DownloadError     no place had the text
└── Interrupted           exit code 128 + the signal's number: somebody stopped it; nothing is wrong

A message says what happened, with which value, and what to do about it. `stages.cli` alone turns one into a
line on standard error and an exit code.
"""

import signal as signals


class FolioError(Exception):
    """The root: never raised itself."""

    exit_code = 1


class InputError(FolioError):
    """What was given is wrong."""

    exit_code = 2


class ParameterError(InputError):
    """A key of params.yaml, or an option, has a value that cannot be used."""


class TextError(InputError):
    """A text, or a character in it, cannot be used."""


class ModelError(InputError):
    """A model folder is missing, incomplete, damaged or of another kind."""


class WorkError(FolioError):
    """The input was right and the work failed all the same."""


class Interrupted(FolioError):
    """A signal asked the stage to stop, and what it had done is kept."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by {signals.Signals(signal).name}; the next run goes on from here")
        self.exit_code = 128 + signal


class DownloadError(WorkError):
    """A text could be had from none of the places tried."""
