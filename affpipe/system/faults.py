"""Cause of an exception that ends the work on one item: the item, the machine, or the code.

An exception of a library counts as the item's: a file that no decoder, network or array code was ready for must not end the others. It is
the machine's if the next item would meet it too (memory, a GPU, a disk, file handles). If the first items of a job all end at one line with
one type, it is the code's: going on would only mark every item as failed. A PartError is always the code's.
"""

import errno
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from affpipe.core.errors import AffpipeError

FIRST = 3  # number of first items that may not all end in one way
TEXT = 300  # most characters of an exception's text in a reason
ANYWHERE = (errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)  # the machine's, whatever file is worked on
OF_A_DISK = (errno.EIO, errno.ESTALE, errno.EROFS)  # the machine's, unless the named file is the user's own
MEMORY = ("can't allocate memory", "Insufficient memory", "std::bad_alloc")  # texts of torch, OpenCV and C++ for main memory
GPU = ("CUDA error", "CUDA out of memory", "CUDA driver", "cuDNN error", "CUBLAS_STATUS", "CUDNN_STATUS", "NCCL error")


def wants_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out. torch has OutOfMemoryError for a GPU; others only say so in their text."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _says(error, MEMORY)


def of_machine(error: Exception, own: Path | None = None) -> bool:
    """Return whether an exception is a fault of the machine, which every other item would meet too.

    Args:
        own: folder of the store. A disk that does not read or write is the machine's fault only there, or if no file is named.
    """
    if wants_memory(error) or _says(error, GPU):
        return True
    if not isinstance(error, OSError):
        return False
    named = getattr(error, "filename", None)
    below = not isinstance(named, str | bytes | Path) or own is None or _within(named, own)
    return error.errno in ANYWHERE or (error.errno in OF_A_DISK and below)


def _within(named: str | bytes | Path, folder: Path) -> bool:
    name = named.decode(errors="surrogateescape") if isinstance(named, bytes) else named
    return Path(name).absolute().is_relative_to(folder.absolute())


def _says(error: BaseException, words: Sequence[str]) -> bool:
    """Return whether the text of a C++ library's error has one of the words. Its type says little: RuntimeError, or OpenCV's own."""
    return (isinstance(error, RuntimeError) or _module(error).startswith("cv2")) and any(word in str(error) for word in words)


def _module(error: BaseException) -> str:
    return type(error).__module__


def words(error: BaseException) -> str:
    """Describe an exception in one line, by type, text and place: "cv2.error: OpenCV(4.11) ... (affpipe.faces.crop:60)".

    It contains no ";", which separates the remedy.
    """
    name = type(error).__qualname__ if _module(error) == "builtins" else f"{_module(error)}.{type(error).__qualname__}"
    text = " ".join(str(error).replace(";", ",").split())
    text = text if len(text) <= TEXT else f"{text[:TEXT]} ..."
    module, line = _place(error.__traceback__)
    return f"{name}{': ' if text else ''}{text} ({module}:{line})"


def reason(who: str, error: Exception) -> str:
    """Describe in one line a file whose work an exception of a library has ended."""
    return f"{who}: want a file that it gets through, got {words(error)}; if the file plays elsewhere, report this"


def said(who: str, error: Exception) -> str:
    """One line on a file that an exception has ended: an error of affpipe's own says it itself. One of the machine's is raised again."""
    if isinstance(error, AffpipeError):
        return str(error)
    if of_machine(error):
        raise error
    return reason(who, error)


def _place(traceback: TracebackType | None) -> tuple[str, int]:
    """Return the innermost module and line that raised. A module and no file, as many encoders have a worker.py."""
    at = ("unknown", 0)
    while traceback is not None:
        frame, line, traceback = traceback.tb_frame, traceback.tb_lineno, traceback.tb_next
        at = str(frame.f_globals.get("__name__") or Path(frame.f_code.co_filename).name), line
    return at


class Beginning:
    """Record of how the first items of a job ended; tells a bug from faulty items.

    Args:
        items: number of items in the job. A job of at most `FIRST` marks its items and goes on.
    """

    def __init__(self, items: int):
        self._short = items <= FIRST
        self._ends: list[tuple[type, str, int] | None] = []

    def is_bug(self, error: Exception | None) -> bool:
        """Add how the next item ended (None: well, or by an error of affpipe's own); return True once the first ones all ended alike."""
        if self._short or len(self._ends) >= FIRST:
            return False
        self._ends.append(None if error is None else (type(error), *_place(error.__traceback__)))
        return len(self._ends) == FIRST and self._ends[0] is not None and len(set(self._ends)) == 1
