"""The processes of the demo: started in groups of their own, stopped in reverse order, never left behind.

In: command lines.  Out: running processes whose output is kept in files.
"""
from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from pathlib import Path

from mailproxy.demo.place import DemoFailed

#: Seconds that a process has to end after TERM.
_STOP_TIMEOUT = 10.0
_PR_SET_PDEATHSIG = 1
#: How much of an output file an error message shows.
_TAIL = 2000

_libc = ctypes.CDLL(None, use_errno=True)


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Processes:
    """All that was started, in order."""

    __slots__ = ("_directory", "_started")

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def output(self, name: str) -> Path:
        return self._directory / f"{name}.out"

    def start(self, name: str, argv: list[str], env: dict[str, str] | None = None) -> None:
        """A group of its own: Ctrl-C at the terminal reaches the demo alone, which stops the others in order."""
        with self.output(name).open("wb") as out:
            try:
                process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
                                           process_group=0, preexec_fn=_end_with_parent)  # noqa: PLW1509 one thread
            except OSError as error:
                raise DemoFailed(f"{argv[0]} cannot be started: {error.strerror}") from None
        self._started.append((name, process))

    def check(self) -> None:
        """DemoFailed if one has ended."""
        for name, process in self._started:
            status = process.poll()
            if status is not None:
                raise DemoFailed(f"{name} ended with status {status}:\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        """The end of what it printed."""
        path = self.output(name)
        return path.read_text(errors="replace")[-_TAIL:].strip() if path.exists() else ""

    def stop(self) -> None:
        """The last one first.  One that does not obey TERM is killed with its whole group."""
        while self._started:
            _, process = self._started.pop()
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
