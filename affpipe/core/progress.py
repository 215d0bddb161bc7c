"""Progress of work: the type of its callback, and seconds and bytes in words."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # stage, items done, items in all


def duration(seconds: float) -> str:
    """Format seconds for people: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Format a number of bytes for people: 45.0 MB, 3.5 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
