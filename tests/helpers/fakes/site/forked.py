"""A process that has a fork of ../server.py do its work, and ends as that does."""

import json
import os
import signal
import socket
import sys
from typing import NoReturn


def run(server: str) -> NoReturn:
    """Ask the server at this socket for a fork, pass signals on, and end with its exit status, or by its signal."""
    wanted = {
        "arguments": sys.orig_argv[2:],
        "folder": os.getcwd(),
        "path": [os.getcwd(), *sys.path[1:]] if sys.path[0] == "" else [os.getcwd(), *sys.path],
        "environment": dict(os.environ),
        "umask": _umask(),
    }
    text = json.dumps(wanted).encode()
    with socket.socket(socket.AF_UNIX) as fork:
        fork.connect(server)
        socket.send_fds(fork, [len(text).to_bytes(4, "big")], [0, 1, 2])
        fork.sendall(text)
        pid = int.from_bytes(fork.recv(4), "big")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        status = int.from_bytes(fork.recv(4), "big")
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found
