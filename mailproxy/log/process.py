"""The log process: the one writer of log files and syslog.

In: one pipe per service and the master's own, in the framing of log.pipe.  Out: finished lines to the sinks.
It must not know what a service does.  Lines without the header come from libraries that print to standard error; they
are logged as errors of their service.  On the master's pipe a frame of type 8 (`CHILD-PID KIND SERVICE TEXT`) is what
the master says about a dead child: it is written after everything that the child itself wrote, and a plain "returned
error 89" is left out when the child had logged a fatal error of its own.

The process ends when the last writer of the last pipe is gone, so it outlives everybody who may have something to
say.  Signals: USR1 reopens the files; the others that end a process are ignored.
Limits: _READ bytes a pipe and round, _MAX_LINE bytes of an unfinished line, _MAX_FATALS remembered pids.
"""
from __future__ import annotations

import os
import re
import select
import signal
import time
from typing import Any, Protocol

from mailproxy.errors import EXIT_LOG_OPEN, EXIT_LOG_WRITE, EXIT_OK, ConfigInvalid, Problem
from mailproxy.log.format import Stamp, heads
from mailproxy.log.sink import LogFailed, Settings, Sink, check, open_sinks, settings_of

_READ = 65536
_MAX_LINE = 8192
_MAX_FATALS = 1000
#: Two rounds closer than this to each other mean that the writers are busy...
_BUSY = 0.05
#: ...and then a short rest lets lines gather: fewer wake-ups and writes per line.  A pipe holds 64 KiB meanwhile.
_REST = 0.005
_ERROR, _FATAL = 3, 4
_CHILD_FRAME = 8
#: What programs say about their lines to come, in frames of the same type: with `prefix=TEXT: ` they have another one
#: than the service's name.
_PREFIX = b"prefix="
_OPTIONS = (_PREFIX, b"ip=")
#: Processes of a service whose prefixes are known; beyond, the oldest get the service's name again.
_MAX_PREFIXES = 2000
_DEFAULT_FATAL = b" returned error 89 "
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
#: The control characters of lines that are framed, neither fatal nor odd.
_FRAMED = re.compile(rb"\x01[\x01-\x04](?:\n\x01[\x01-\x04])*")
#: What is left of a chunk without these is its control characters.
_HARMLESS = bytes(code for code in range(256) if code >= 32 and code != 127)


class LogChild(Protocol):
    """What this role uses of ipc.contract.Child."""

    dead_fd: int
    extra: dict[str, Any]

    def report(self, available: int) -> None: ...


def prepare(conf: Any, service: Any) -> Settings:
    """The log settings; ConfigInvalid if a file cannot be opened."""
    settings = settings_of(conf)
    try:
        check(settings)
    except OSError as failure:
        raise ConfigInvalid([Problem("", 0, f"Can't open log file {failure.filename}: {failure.strerror}")]) from None
    return settings


def escape(body: bytes) -> bytes:
    """One event is one line, whoever wrote it."""
    return _CONTROL.sub(lambda match: b"\\x%02x" % match[0][0], body)


class Pipe:
    """One service's pipe: its descriptor, line heads and unfinished line."""

    __slots__ = ("fd", "heads", "prefixes", "rest", "service")

    def __init__(self, fd: int, service: str) -> None:
        self.fd = fd
        self.service = service
        self.heads = heads(service)
        self.prefixes: dict[bytes, list[bytes]] = {}    # by pid
        self.rest = b""

    def rename(self, pid: bytes, prefix: bytes) -> None:
        self.prefixes[pid] = heads(escape(prefix).decode("utf-8", "replace").removesuffix(": "))
        if len(self.prefixes) > _MAX_PREFIXES:
            del self.prefixes[next(iter(self.prefixes))]


class Writer:
    """Turns chunks of pipe data into lines at the sinks."""

    __slots__ = ("_fatals", "_sinks", "_stamp", "_unique", "stamp")

    def __init__(self, settings: Settings) -> None:
        self._sinks = open_sinks(settings)
        self._unique: list[Sink] = list(dict.fromkeys(self._sinks))
        self._stamp = Stamp(settings.log_timestamp)
        self._fatals: dict[bytes, None] = {}
        self.stamp = b""

    def begin(self) -> None:
        """A new round: its lines carry the time of now."""
        self.stamp = self._stamp.at(time.time())

    def end(self) -> None:
        for sink in self._unique:
            sink.flush()

    def own(self, kind: int, text: str) -> None:
        """A line of the log process itself."""
        self._sinks[kind].put(kind, self.stamp, heads(f"log({os.getpid()})")[kind], text.encode())

    def reopen(self) -> None:
        for sink in self._unique:
            try:
                sink.reopen()
            except OSError as failure:
                self.own(_ERROR, f"open({failure.filename}) failed: {failure.strerror}")

    def feed(self, pipe: Pipe, data: bytes) -> list[bytes]:
        """Write the whole lines of `data`; returns the frames that only the master may send, for the caller."""
        lines = (pipe.rest + data).split(b"\n")
        pipe.rest = lines.pop()
        if len(pipe.rest) > _MAX_LINE:
            lines.append(pipe.rest)
            pipe.rest = b""
        # nothing of them is a control character but the headers and line ends: nothing is to be escaped
        clean = not pipe.prefixes and _FRAMED.fullmatch((b"\n".join(lines)).translate(None, _HARMLESS)) is not None
        special: list[bytes] = []
        stamp, sinks, line_heads = self.stamp, self._sinks, pipe.heads
        for line in lines:
            # neither fatal nor odd: nearly every line
            if clean and line[:1] == b"\x01" and b"\x01" < line[1:2] <= b"\x04":
                kind = line[1] - 1
                sinks[kind].put(kind, stamp, line_heads[kind], line[line.find(b" ") + 1 or 2:])
            elif line:
                self._slow(pipe, line, special)
        return special

    def _slow(self, pipe: Pipe, line: bytes, special: list[bytes]) -> None:
        start = line.find(b"\x01")
        if start > 0 and line[start + 1:start + 2] and line[start + 1] <= _CHILD_FRAME:
            self._put(pipe, _ERROR, line[:start])           # something printed without a newline of its own
            line = line[start:]
        if line[:1] != b"\x01" or len(line) < 2:
            self._put(pipe, _ERROR, line)
            return
        kind = line[1] - 1
        pid, _, body = line[2:].partition(b" ")
        if kind == _CHILD_FRAME - 1:
            if body.startswith(_PREFIX):
                pipe.rename(pid, body[len(_PREFIX):])
            elif not body.startswith(_OPTIONS):
                special.append(line[2:])
        elif 0 <= kind < len(self._sinks):
            if kind >= _FATAL:
                self._remember(pid)
            self._put(pipe, kind, body, pid)
        else:
            self._put(pipe, _ERROR, line)

    def _put(self, pipe: Pipe, kind: int, body: bytes, pid: bytes = b"") -> None:
        self._sinks[kind].put(kind, self.stamp, pipe.prefixes.get(pid, pipe.heads)[kind], escape(body))

    def _remember(self, pid: bytes) -> None:
        self._fatals[pid] = None
        if len(self._fatals) > _MAX_FATALS:
            del self._fatals[next(iter(self._fatals))]

    def child_line(self, pipe: Pipe, kind: int, pid: bytes, body: bytes) -> None:
        """What the master says about a child of `pipe`'s service, after the child's own last words."""
        logged = self._fatals.pop(pid, self) is None
        if not (logged and _DEFAULT_FATAL in body):
            self._put(pipe, kind, body)

    def finish(self, pipe: Pipe) -> None:
        """The last writer is gone: an unfinished line is a line."""
        if pipe.rest:
            self._put(pipe, _ERROR, pipe.rest.lstrip(b"\x01"))
            pipe.rest = b""


class Reader:
    """Reads the pipes round by round until all are at their end."""

    __slots__ = ("_by_name", "_master", "_pipes", "_poll", "_writer")

    def __init__(self, writer: Writer, pipes: list[tuple[int, str]]) -> None:
        self._writer = writer
        self._pipes = {fd: Pipe(fd, name) for fd, name in pipes}
        self._by_name = {pipe.service: pipe for pipe in self._pipes.values()}
        self._master = pipes[0][0]
        self._poll = select.poll()
        for fd in self._pipes:
            self._poll.register(fd, select.POLLIN)

    def run(self, wake: int) -> None:
        self._poll.register(wake, select.POLLIN)
        last = 0.0
        while self._pipes:
            ready = [fd for fd, _ in self._poll.poll()]
            now = time.monotonic()
            if now - last < _BUSY:
                time.sleep(_REST)
            last = now
            self._writer.begin()
            if wake in ready and signal.SIGUSR1 in os.read(wake, 64):
                self._writer.reopen()
            for fd in ready:
                if fd not in (wake, self._master):
                    self._read(self._pipes.get(fd))
            if self._master in ready:       # after the others: what it says about a child comes after the child's words
                self._read(self._pipes.get(self._master))
            self._writer.end()

    def _read(self, pipe: Pipe | None) -> None:
        if pipe is None:
            return
        try:
            data = os.read(pipe.fd, _READ)
        except BlockingIOError:
            return
        if not data:
            self._writer.finish(pipe)
            self._poll.unregister(pipe.fd)
            del self._pipes[pipe.fd]
            os.close(pipe.fd)
            return
        frames = self._writer.feed(pipe, data)
        for frame in frames:
            self._about_child(pipe, frame)

    def _about_child(self, pipe: Pipe, frame: bytes) -> None:
        fields = frame.split(b" ", 3)
        if pipe.fd != self._master or len(fields) != 4 or fields[1] not in (b"2", b"3", b"4"):
            self._writer.own(_ERROR, f"{pipe.service} sent a malformed frame")
            return
        name = fields[2].decode("utf-8", "replace")
        target = self._by_name.get(name) or Pipe(-1, name)      # of an older configuration, or the log itself
        if target is not pipe and target.fd in self._pipes:
            self._read(target)
        self._writer.child_line(target, int(fields[1]), fields[0], fields[3])


def main(child: LogChild, prepared: Any) -> int:
    """Serve until every pipe is at its end."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    try:
        writer = Writer(prepared)
    except OSError as failure:
        os.write(2, f"Can't open log file {failure.filename}: {failure.strerror}\n".encode())
        return EXIT_LOG_OPEN
    child.report(1)
    try:
        Reader(writer, child.extra["pipes"]).run(wake_read)
    except LogFailed as failure:
        os.write(2, f"Can't write to log file: {failure}\n".encode())
        return EXIT_LOG_WRITE
    return EXIT_OK
