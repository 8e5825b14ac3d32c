"""Where log lines end up: files, standard error, syslog.

In: whole lines with the number of their type.  Out: bytes appended to a file, or syslog records.
It must not know who wrote a line.  Errors that a full disk causes are survived: lines are counted as lost, and the
count is logged when there is room again; anything else that keeps us from writing is `LogFailed`.
"""
from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Any, Protocol

from mailproxy.errors import MailproxyError
from mailproxy.log import syslog
from mailproxy.log.format import TYPES

_INFO = 1
#: What syslog records of this type go without (as Dovecot's do; log analysers expect it).
_INFO_WORD = b"Info: "
#: A disk that is full, over quota or failing may recover; a file at its size limit is replaced by log rotation.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EAGAIN})
_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}


class LogFailed(MailproxyError):
    """The log cannot be written at all."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the log process needs of the configuration."""

    log_path: str = "syslog"
    info_log_path: str = ""
    debug_log_path: str = ""
    log_timestamp: str = "%b %d %H:%M:%S "
    syslog_facility: str = "mail"
    ident: str = "mailproxy"

    def paths(self) -> list[str]:
        """The destination of each type."""
        main = self.log_path or "syslog"
        info = self.info_log_path or main
        debug = self.debug_log_path or info
        return [debug, info] + [main] * (len(TYPES) - 2)


def settings_of(conf: Any) -> Settings:
    """Of a mailproxy.config.Config."""
    view = conf.view()
    log = view.logging
    return Settings(log.log_path, log.info_log_path, log.debug_log_path, log.log_timestamp, log.syslog_facility,
                    view.core.instance_name)


class Sink(Protocol):
    """One destination.  `put` takes a finished line without its timestamp, `flush` writes what was put."""

    def put(self, kind: int, stamp: bytes, head: bytes, body: bytes) -> None: ...

    def flush(self) -> None: ...

    def reopen(self) -> None: ...


def open_log_file(path: str) -> int:
    """A descriptor for appending; the standard streams are used as they are (they may be sockets, which cannot be
    opened again by name).  OSError if it cannot be had."""
    if path in _STANDARD:
        return _STANDARD[path]
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)


class FileSink:
    """A file or a standard stream.  One write(2) per batch."""

    __slots__ = ("_fd", "_lines", "_lost", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = open_log_file(path)
        self._lines: list[bytes] = []
        self._lost = 0

    def put(self, kind: int, stamp: bytes, head: bytes, body: bytes) -> None:
        self._lines += (stamp, head, body, b"\n")

    def flush(self) -> None:
        if not self._lines:
            return
        if self._lost:
            self._lines.insert(0, b"%slog: Error: %d batches of lines were lost: write(%s) failed\n"
                               % (self._lines[0], self._lost, self.path.encode()))
        data = b"".join(self._lines)
        self._lines.clear()
        try:
            while data:
                data = data[os.write(self._fd, data):]
            self._lost = 0
        except OSError as failure:
            if failure.errno not in _PASSING:
                raise LogFailed(f"write({self.path}) failed: {failure.strerror}") from None
            self._lost += 1

    def reopen(self) -> None:
        """OSError: the old file stays in use."""
        if self.path in _STANDARD:
            return
        fresh = open_log_file(self.path)
        os.close(self._fd)
        self._fd = fresh


class SyslogSink:
    """The system's logger.  Records carry no timestamp of ours."""

    __slots__ = ("_send",)

    def __init__(self, ident: str, facility: str) -> None:
        self._send = syslog.connect(ident, facility)

    def put(self, kind: int, stamp: bytes, head: bytes, body: bytes) -> None:
        if kind == _INFO:
            head = head.removesuffix(_INFO_WORD)
        self._send(kind, (head + body).decode("utf-8", "replace"))

    def flush(self) -> None:
        """Records are sent one by one."""

    def reopen(self) -> None:
        """The C library reconnects by itself."""


def open_sinks(settings: Settings) -> list[Sink]:
    """One sink per type; types with the same destination share one.  OSError names the path that failed."""
    by_path: dict[str, Sink] = {}
    for path in settings.paths():
        if path not in by_path:
            by_path[path] = (SyslogSink(settings.ident, settings.syslog_facility) if path == "syslog"
                             else FileSink(path))
    return [by_path[path] for path in settings.paths()]


def check(settings: Settings) -> None:
    """OSError (with the path as filename) unless every file can be opened; leaves nothing open."""
    for path in dict.fromkeys(settings.paths()):
        if path != "syslog":
            fd = open_log_file(path)
            if path not in _STANDARD:
                os.close(fd)
