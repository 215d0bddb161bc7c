"""The exception tree.

AffpipeError            anything that the user can mend: the command line prints one line and exits 2
├── SettingsError       config, recipe or command-line value
├── ManifestError       manifest, annotation or template row
├── InputError          an argument of the wrong shape, dtype or range
├── MediaError          a video or audio file that cannot be used
├── StoreError          a stream, index or model that does not open or does not agree with its name, a disk that takes no more
├── WeightsError        a checkpoint that is missing, incomplete or not the one recorded
└── AbsentError         nothing is wrong, yet there is nothing to make: a video without audio, say

Messages read "who: want X, got Y; do Z", on one line whatever the names in them hold. A bug keeps its traceback: it is no AffpipeError.
One of the code of a part (a stage, an encoder, a model, a term), which may be another package's, is a PartError: traceback, then that line.
"""

from pathlib import Path

from affpipe.core.plain import plain


class AffpipeError(Exception):
    """Base of every error that the user can mend."""

    def __str__(self) -> str:
        return plain(super().__str__())


class PartError(Exception):
    """A bug in the code of a part: no file is at fault, and the job stops at once, whatever `on_error` says."""

    def __str__(self) -> str:
        return plain(super().__str__())


class SettingsError(AffpipeError):
    """A setting is unknown, of the wrong type or out of range."""


class ManifestError(AffpipeError):
    """A manifest, annotation or template does not hold what it must."""


class InputError(AffpipeError):
    """An argument has the wrong shape, dtype or range."""


class MediaError(AffpipeError):
    """A media file is missing, damaged or of no use."""


class StoreError(AffpipeError):
    """A stored file cannot be trusted, read or written.

    damaged: the file that is missing or not what its name says, which has to be made again; None where the disk is at fault.
    """

    def __init__(self, message: str, *, damaged: Path | None = None):
        super().__init__(message)
        self.damaged = damaged


class WeightsError(AffpipeError):
    """A checkpoint is missing, incomplete or not the recorded one."""


class AbsentError(AffpipeError):
    """A stream has nothing of this kind, for a reason that is no fault (no audio track, no usable window)."""
