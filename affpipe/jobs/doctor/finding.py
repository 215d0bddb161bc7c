"""The result of a check."""

from dataclasses import dataclass

FINE, WARNING, FAULT = "fine", "warning", "fault"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        check: the thing, in a word or two.
        level: fine; warning, a run can go on; fault, it cannot, or would be in vain.
        found: what was found, and what is wanted if that differs. remedy: what to do, "" if all is well.
    """

    check: str
    level: str
    found: str
    remedy: str = ""


def fine(check: str, found: str) -> Finding:
    return Finding(check, FINE, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, WARNING, found, remedy)


def fault(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, FAULT, found, remedy)


def of_error(check: str, error: Exception | str, level: str = FAULT) -> Finding:
    """Return a finding from a message "who: want X, got Y; do Z", split into its two parts."""
    found, _, remedy = str(error).rpartition("; ")
    return Finding(check, level, found or remedy, remedy if found else "")
