"""Starts `python -m affpipe` and `python -m snakemake` with all that they import there already: forks of this process, which did no work.

`python server.py SOCKET MODULE...` imports the modules, says "ready" and serves until its standard input ends. site/sitecustomize.py asks
it, in the process that would have imported everything itself; that process stays as long as the fork does, ends as it ends, and takes it
along when it is killed.
"""

import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn


def serve(listener: socket.socket) -> str:
    """Fork for each that asks, and tell it how the fork ended; return in a fork, with the module that it is to run."""
    with selectors.DefaultSelector() as ready:
        ready.register(sys.stdin.buffer, selectors.EVENT_READ, None)
        ready.register(listener, selectors.EVENT_READ, None)
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin.buffer:  # whoever started the server is gone: nothing of it is left behind
                    for own in list(ready.get_map().values()):
                        if isinstance(own.data, int):
                            os.kill(own.data, signal.SIGKILL)
                    sys.exit()
                elif key.fileobj is listener:
                    asker, _ = listener.accept()
                    wanted, streams = _request(asker)
                    if not (pid := os.fork()):
                        asker.close()
                        listener.close()
                        ready.close()
                        become(wanted, streams)
                        return wanted["arguments"][0]
                    for stream in streams:
                        os.close(stream)
                    with contextlib.suppress(OSError):  # gone already: seen below
                        asker.sendall(pid.to_bytes(4, "big"))
                    fork = os.pidfd_open(pid)
                    ready.register(asker, selectors.EVENT_READ, pid)
                    ready.register(fork, selectors.EVENT_READ, (pid, asker))
                elif key.fd not in ready.get_map():  # its fork ended in the same moment
                    continue
                elif isinstance(key.data, int):  # whoever asked is gone
                    ready.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGKILL)
                else:
                    pid, asker = key.data
                    ready.unregister(key.fileobj)
                    os.close(key.fd)
                    _, status = os.waitpid(pid, 0)
                    with contextlib.suppress(OSError, KeyError):
                        ready.unregister(asker)
                        asker.sendall(status.to_bytes(4, "big"))
                    asker.close()


def _request(asker: socket.socket) -> tuple[dict[str, Any], list[int]]:
    size, streams, _, _ = socket.recv_fds(asker, 4, 3)
    with asker.makefile("rb") as file:
        return json.loads(file.read(int.from_bytes(size, "big"))), streams


def become(wanted: Mapping[str, Any], streams: list[int]) -> None:
    """Make this process what the one that asked would have been, before it imports its first module."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for name, number, buffering in (("stdout", 1, -1), ("stderr", 2, 1)):  # made anew: they know what they were opened on
        old = getattr(sys, name)
        setattr(sys, name, open(number, "w", buffering, encoding=old.encoding, errors=old.errors, closefd=False))  # noqa: SIM115 - for good
    os.umask(wanted["umask"])
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv[:] = ["-m", *wanted["arguments"][1:]]
    sys.path[:] = wanted["path"]


def finish(code: int) -> NoReturn:
    """End as an interpreter does, but for taking apart what was imported, which takes longer than most jobs."""
    threading._shutdown()
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    for name in sys.argv[2:]:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(sys.argv[1])
        place.listen(64)
        print("ready", flush=True)
        gc.freeze()  # what is not looked at is not copied either
        module = serve(place)
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finish(code)
