"""Running a checkpassword program: user and password on descriptor 3, its reply from descriptor 4.

In: the program's arguments, the variables of a request.  Out: its exit status and its fields.  What it writes to
standard error is for the log.  Limits: 512 bytes of user and password, MAX_REPLY bytes of reply, TIMEOUT seconds;
then the program's process group is killed.  Blocking: for auth-workers, which have one thread.
"""
from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mailproxy.auth.passdb.driver import ArgsInvalid, Pairs
from mailproxy.auth.variables import NAMES, template
from mailproxy.ipc.authwire import unescape
from mailproxy.variables import ExpandError, Values

#: Executed by the program when the user may come in.
REPLY = Path(__file__).with_name("checkpassword-reply")
#: Bytes: what the interface allows; a reply; an error text that is worth logging.
MAX_CREDENTIALS = 512
MAX_REPLY = 16384
MAX_COMPLAINT = 1000
#: Seconds, less than a worker is given for a lookup.
TIMEOUT = 50.0
_NAMES = tuple((name, key) for name, key in NAMES.items() if len(name) > 1 and key != "password")
NEEDS = tuple(dict.fromkeys(key for _, key in _NAMES))
_CREDENTIALS, _ANSWER = 3, 4
#: Above all numbers that a child gets its descriptors under.
_SAFE = 10
_CANNOT_RUN = 111
#: Variable -> names under which the program finds it, if it has a value.
_ENVIRONMENT = {"service": ("SERVICE",), "lip": ("TCPLOCALIP", "LOCAL_IP"), "rip": ("TCPREMOTEIP", "REMOTE_IP"),
                "lport": ("TCPLOCALPORT",), "rport": ("TCPREMOTEPORT",), "master_user": ("MASTER_USER",)}


class Outcome:
    """`status`: exit status, or -1 when there is none; `failure` tells what went wrong."""

    __slots__ = ("complaint", "failure", "fields", "status")

    def __init__(self, status: int, failure: str = "", fields: Pairs | None = None, complaint: str = "") -> None:
        self.status = status
        self.failure = failure
        self.fields: Pairs = fields if fields is not None else []
        self.complaint = complaint


class Program:
    """`identity`: (uid, gid) to take on when the worker is root's."""

    __slots__ = ("_words", "identity")

    def __init__(self, args: str) -> None:
        words = args.split()
        if not words:
            raise ArgsInvalid("checkpassword: the args must name a program")
        if not os.access(REPLY, os.X_OK):
            raise ArgsInvalid(f"checkpassword: {REPLY} is not executable, is the installation complete?")
        self._words = [template(word) for word in words]
        self.identity: tuple[int, int] | None = None

    def run(self, values: Values, password: str, environment: Mapping[str, str]) -> Outcome:
        credentials = values["user"].encode("utf-8", "surrogateescape") + b"\0" \
            + password.encode("utf-8", "surrogateescape") + b"\0\0"
        if len(credentials) > MAX_CREDENTIALS:
            return Outcome(1, f"Username+password combination too long ({len(credentials)} bytes)")
        if credentials.count(b"\0") != 3:
            return Outcome(1, "NUL in user name or password")
        try:
            argv = [*(word.expand(values) for word in self._words), str(REPLY)]
        except ExpandError as error:
            return Outcome(-1, f"Failed to expand args: {error}")
        if any("\0" in word for word in argv):
            return Outcome(-1, "NUL in args")
        try:
            return self._run(argv, {**_variables(values), **environment}, credentials)
        except OSError as error:
            return Outcome(-1, f"{argv[0]}: {error.strerror}")

    def _run(self, argv: list[str], environment: dict[str, str], credentials: bytes) -> Outcome:
        pipes: list[int] = []
        try:
            for _ in range(3):
                pipes += _pipe()
            in_read, in_write, out_read, out_write, err_read, err_write = pipes
            pid = os.fork()
            if not pid:
                _become(argv, environment, self.identity, (in_read, out_write, err_write))
            for fd in (in_read, out_write, err_write):
                os.close(fd)
                pipes.remove(fd)
            with suppress(BrokenPipeError):             # not interested in its input
                os.write(in_write, credentials)
            os.close(in_write)
            pipes.remove(in_write)
            return _outcome(argv[0], *_collect(pid, out_read, err_read))
        finally:
            for fd in pipes:
                os.close(fd)


def _variables(values: Values) -> dict[str, str]:
    found = {"PROTO": "TCP", "ORIG_UID": str(os.geteuid())}
    found["AUTH_CERT"] = ""
    for name, key in _NAMES:
        value = values[key]
        if value and "\0" not in value:
            found["AUTH_" + name.upper()] = value
            if value != "0" or not key.endswith("port"):
                found.update(dict.fromkeys(_ENVIRONMENT.get(key, ()), value))
    return found


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    safe = []
    for fd in ends:
        safe.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SAFE))
        os.close(fd)
    return safe[0], safe[1]


def _become(argv: list[str], environment: dict[str, str], identity: tuple[int, int] | None,
            fds: tuple[int, int, int]) -> None:
    """In the child: never returns."""
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for source, target in ((null, 0), (null, 1), (fds[2], 2), (fds[0], _CREDENTIALS), (fds[1], _ANSWER)):
            os.dup2(source, target)
        os.closerange(_ANSWER + 1, 1024)
        if identity is not None and os.geteuid() == 0:
            os.setgroups([])
            os.setgid(identity[1])
            os.setuid(identity[0])
            environment["ORIG_UID"] = str(identity[0])
        os.execve(argv[0], argv, {**os.environ, **environment})
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(_CANNOT_RUN)


def _collect(pid: int, out: int, err: int) -> tuple[int, bytes, bytes]:
    """Wait status, reply, error text.  A wait status of -1: it took too long."""
    end = time.monotonic() + TIMEOUT
    texts = {out: b"", err: b""}
    limits = {out: MAX_REPLY + 1, err: MAX_COMPLAINT}
    process = os.pidfd_open(pid)
    poll = select.poll()
    for fd in (out, err, process):
        poll.register(fd, select.POLLIN)
    ended = late = False
    try:
        while not ended and not late:
            ready = [fd for fd, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000)]
            late = not ready
            ended = process in ready
            for fd in ready:
                if fd == process:
                    continue
                data = os.read(fd, 65536)
                if not data:
                    poll.unregister(fd)
                texts[fd] = (texts[fd] + data)[:limits[fd]]
            late = late or time.monotonic() > end
        for fd, text in texts.items():          # what was written last; a grandchild may keep it open
            os.set_blocking(fd, False)
            with suppress(BlockingIOError):
                texts[fd] = (text + os.read(fd, 65536))[:limits[fd]]
    finally:
        os.close(process)
        if not ended:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    return (status if ended else -1), texts[out], texts[err]


def _outcome(program: str, status: int, reply: bytes, error: bytes) -> Outcome:
    complaint = " ".join(error.decode("utf-8", "replace").split())
    if status == -1:
        return Outcome(-1, f"{program} took longer than {TIMEOUT:.0f} seconds", complaint=complaint)
    if os.WIFSIGNALED(status):
        return Outcome(-1, f"Child died with signal {os.WTERMSIG(status)}", complaint=complaint)
    if len(reply) > MAX_REPLY:
        return Outcome(-1, f"the reply has more than {MAX_REPLY} bytes", complaint=complaint)
    if b"\0" in reply or b"\n" in reply:
        return Outcome(-1, "LF or NUL characters in checkpassword reply", complaint=complaint)
    fields: Pairs = []
    for part in reply.decode("utf-8", "surrogateescape").split("\t"):
        key, _, value = unescape(part).partition("=")
        if key:
            fields.append((key, value))
    return Outcome(os.waitstatus_to_exitcode(status), fields=fields, complaint=complaint)
