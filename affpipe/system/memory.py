"""Reuse of memory that this process has freed."""

import ctypes

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # parameters of glibc's mallopt
KEPT_BYTES = 2**30


def keep(size: int = KEPT_BYTES) -> None:
    """Let this process keep freed blocks of up to `size` bytes for reuse, if the C library is glibc.

    By default it returns larger blocks to the system (from 128 KB on at first, above 32 MB always), and gets them again, zeroed page by
    page. That takes longer than converting a 720p frame to RGB, and a third of the time of a convolutional network on a CPU.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(MMAP_THRESHOLD, size)
        mallopt(TRIM_THRESHOLD, size)
