"""Writing to the log process: one framed line per event, joined per batch.

Frame (the wire between a child and the log process): byte 0x01, byte type + 1, then `PID SPACE text LF`; type 7 carries
`prefix=TEXT: `.
Lines without that header come from libraries that print to stderr; the log process writes them as errors.
The pipe is blocking: a log process that is slow slows its writers down, but no line is lost.
"""
from __future__ import annotations

import os

DEBUG, INFO, WARNING, ERROR, FATAL, PANIC = range(6)
#: Written atomically by the kernel: longer texts are cut into several lines.
MAX_TEXT = 3900
#: Buffered bytes before a flush happens by itself (must stay below PIPE_BUF, 4096, to be atomic).
_FLUSH_AT = 4096

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
_CONTROL[9] = "\\t"
_CONTROL[10] = "\\n"
_CONTROL[13] = "\\r"
# what some terminals and programs take for a control sequence or the end of a line
_CONTROL.update((code, f"\\u{code:04x}") for code in (*range(0x80, 0xa0), 0x2028, 0x2029))


def sanitise(text: str) -> str:
    """One event is one line: control characters become visible escapes."""
    return text if text.isprintable() else text.translate(_CONTROL)


class Log:
    """A process's way to the log.  `buffered`: hold lines until `flush()` (the loop's end-of-batch hook)."""

    __slots__ = ("_buffered", "_fd", "_heads", "_pending", "_size", "debug_enabled")

    def __init__(self, fd: int, *, buffered: bool = False, debug: bool = False) -> None:
        self._fd = fd
        self._pending: list[bytes] = []
        self._size = 0
        self._buffered = buffered
        self.debug_enabled = debug
        self.after_fork()

    def after_fork(self) -> None:
        """Lines carry the pid: call this in a new process."""
        self._heads = [b"\x01%c%d " % (kind + 1, os.getpid()) for kind in range(6)]

    def write(self, kind: int, text: str) -> None:
        """Queue or write one event; `text` may hold anything."""
        text = sanitise(text)
        data = text.encode("utf-8", "backslashreplace")
        if len(data) > MAX_TEXT:
            for start in range(0, len(data), MAX_TEXT):
                self._put(self._heads[kind] + data[start:start + MAX_TEXT] + b"\n")
        else:
            self._put(self._heads[kind] + data + b"\n")

    def _put(self, line: bytes) -> None:
        size = self._size + len(line)
        if size > _FLUSH_AT:
            self.flush()
            size = len(line)
        self._pending.append(line)
        self._size = size
        if not self._buffered:
            self.flush()

    def flush(self) -> None:
        if not self._pending:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        self._size = 0
        try:
            os.write(self._fd, data)        # at most 4096 bytes to a blocking pipe: all or an error
        except BrokenPipeError:             # the master and with it the log are gone; sessions live on
            return

    def prefix(self, text: str) -> None:
        """This process' lines begin so, and not with the name of its service."""
        self._put(b"\x01\x08%d prefix=%b: \n" % (os.getpid(), text.encode()))

    def debug(self, text: str) -> None:
        if self.debug_enabled:
            self.write(DEBUG, text)

    def info(self, text: str) -> None:
        self.write(INFO, text)

    def warning(self, text: str) -> None:
        self.write(WARNING, text)

    def error(self, text: str) -> None:
        self.write(ERROR, text)

    def fatal(self, text: str) -> None:
        self.write(FATAL, text)
        self.flush()
