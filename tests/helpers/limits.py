"""What a refusal may take: little memory and time, and one line."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from affpipe.core.errors import AffpipeError

ROOM = 256 << 20  # bytes more than now: what a refusal may take, and far below what each bomb declares


@contextmanager
def bounded(seconds: float = 5) -> Iterator[None]:
    """Fail where the body takes more address space than ROOM or more time than `seconds`."""
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (own + ROOM, before[1]))
    begun = time.monotonic()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.monotonic() - begun < seconds


def refused(call: Callable[[], object], error: type[AffpipeError], *said: str) -> None:
    """`call` ends in one line of this kind that has all of these words."""
    with bounded(), pytest.raises(error) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    assert all(words in message for words in said), message
