"""The exception tree.

AffpipeError            anything that the user can mend: the command line prints one line and exits 2
├── SettingsError       config, recipe or command-line value
├── ManifestError       manifest, annotation or template row
├── InputError          an argument of the wrong shape, dtype or range
├── MediaError          a video or audio file that cannot be used
├── StoreError          a stream, index or model that does not open or does not match its name; a disk that cannot be written
├── WeightsError        a checkpoint that is missing, incomplete or not the one recorded
└── AbsentError         no fault, but nothing to compute, as for a video without audio

Messages read "who: want X, got Y; do Z". They take one line, whatever the names in them hold. A bug is no AffpipeError and keeps its
traceback. A bug in the code of a part (a stage, an encoder, a model, a term), which may come from another package, is a PartError: its
traceback is printed, then one line.
"""

from pathlib import Path

from affpipe.core.plain import plain


class AffpipeError(Exception):
    """Base of all errors that the user can mend."""

    def __str__(self) -> str:
        return plain(super().__str__())


class PartError(Exception):
    """A bug in the code of a part. No file is at fault, and the job stops at once, whatever `on_error` says."""

    def __str__(self) -> str:
        return plain(super().__str__())


class SettingsError(AffpipeError):
    """A setting that is unknown, of the wrong type or out of range."""


class ManifestError(AffpipeError):
    """A manifest, annotation or template with wrong content."""


class InputError(AffpipeError):
    """An argument of the wrong shape, dtype or range."""


class MediaError(AffpipeError):
    """A media file that is missing, damaged or unusable."""


class StoreError(AffpipeError):
    """A stored file that cannot be trusted, read or written.

    Attributes:
        damaged: the file that is missing or does not match its name, and has to be made again; None if the disk is at fault.
    """

    def __init__(self, message: str, *, damaged: Path | None = None):
        super().__init__(message)
        self.damaged = damaged


class WeightsError(AffpipeError):
    """A checkpoint that is missing, incomplete or not the recorded one."""


class AbsentError(AffpipeError):
    """A stream without data of this kind, for a reason that is no fault (no audio track, no usable window)."""
