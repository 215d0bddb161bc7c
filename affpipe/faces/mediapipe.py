"""Start of MediaPipe without its log noise.

Its C++ side writes to file descriptor 2 while a graph starts (delegate notices, "Feedback manager requires ..."), before any of its own
logging switches act, so no environment variable silences it. So the descriptor is captured while graphs start. Lines that are not known
noise are passed on afterwards.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

CHATTER = re.compile(
    rb"INFO: Created TensorFlow Lite|WARNING: All log messages before absl|[IW]\d{4} .*\.cc:\d+\]|.*gl_context.*\.cc:\d+\]"
)


@contextmanager
def quiet_start() -> Iterator[None]:
    """Capture descriptor 2 of the whole process while the body runs; at the end pass on the lines that are not CHATTER.

    The body should also run one inference: a graph logs from its own threads, and these are done once it has answered.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            for line in caught:
                if not CHATTER.match(line):
                    os.write(2, line)
