"""The errors that users see.

FolioError
├── InputError            exit code 2: an input is invalid
│   ├── ParameterError    a key of params.yaml or a command-line option
│   ├── TextError         a text that cannot be used, or a character outside the vocabulary
│   └── ModelError        a folder without a usable model
├── WorkError             exit code 1: the input was valid, but the work failed
│   └── DownloadError     the text could not be fetched from any source
└── Interrupted           exit code 128 + signal number: stopped by a signal, with the progress saved

A message says what happened, with which value, and what to do about it. `core/options.py` turns it into a line on
standard error and an exit code.
"""

import signal as signals


class FolioError(Exception):
    """Base class of all errors; never raised itself."""

    exit_code = 1


class InputError(FolioError):
    """An input is wrong."""

    exit_code = 2


class ParameterError(InputError):
    """A key of params.yaml or an option has an unusable value."""


class TextError(InputError):
    """A text, or a character in it, cannot be used."""


class ModelError(InputError):
    """A model folder is missing, incomplete, damaged or incompatible."""


class WorkError(FolioError):
    """The input was valid, but the work failed."""


class Interrupted(FolioError):
    """A signal stopped the stage after its progress was saved."""

    def __init__(self, signal: int) -> None:
        name = "Ctrl-C (SIGINT)" if signal == signals.SIGINT else signals.Signals(signal).name
        super().__init__(f"stopped by {name}; the next `dvc repro` or `folio train` resumes from the saved checkpoint")
        self.exit_code = 128 + signal


class DownloadError(WorkError):
    """The text could not be fetched from any source."""
