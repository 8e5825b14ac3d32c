"""Where a demo lives: its directory, the lock on it, and its ports.

In: what the user asked for.  Out: a directory whose sockets fit into a UNIX address, and ports that are free now.
"""
from __future__ import annotations

import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mailproxy.errors import MailproxyError

HOST = "127.0.0.1"
#: sun_path of a UNIX socket, without its final NUL.
_MAX_SOCKET_PATH = 107
#: The longest socket name below the directory, with room for a backlog of names to come.
_LONGEST_SOCKET = "/run/login/dns-client-reserve"


class DemoFailed(MailproxyError):
    """The demo cannot go on; the text tells the user what to do."""


def checkout() -> Path:
    """The directory that holds the package."""
    return Path(__file__).resolve().parent.parent.parent


def choose_directory(wanted: str | None) -> Path:
    """The directory of the demo, made if need be.  Without a wish: the first candidate that is fit."""
    if wanted is not None:
        path = Path(wanted).absolute()
        reason = _unfit(path)
        if reason:
            raise DemoFailed(f"{path} cannot hold the demo: {reason}")
        return _make(path)
    reasons = []
    for path in _candidates():
        reason = _unfit(path)
        if not reason:
            return _make(path)
        reasons.append(f"{path}: {reason}")
    raise DemoFailed("no directory is fit for the demo (choose one with --dir): " + "; ".join(reasons))


def _candidates() -> Iterator[Path]:
    if (checkout() / "conf.d").is_dir():
        yield checkout() / ".demo"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime) / "mailproxy-demo"
    yield Path(tempfile.gettempdir()) / f"mailproxy-demo-{os.getuid()}"


def _unfit(path: Path) -> str:
    """Why this directory cannot be used, or ""."""
    if len(os.fsencode(str(path) + _LONGEST_SOCKET)) > _MAX_SOCKET_PATH:
        return "the path is too long for UNIX sockets"
    parent = next(above for above in path.parents if above.exists())
    if not os.access(path if path.exists() else parent, os.W_OK | os.X_OK):
        return "not writable"
    if os.geteuid() == 0:       # processes of other users must reach the sockets in it
        closed = next((above for above in (parent, *parent.parents) if not above.stat().st_mode & stat.S_IXOTH), None)
        if closed is not None:
            return f"{closed} is closed to other users"
    return ""


def _make(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        found = path.lstat()
        # in a shared directory somebody else may have made it first
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise DemoFailed(f"{path} is not a directory of yours: remove it, or choose another with --dir")
        path.chmod(0o755 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise DemoFailed(f"{path} cannot be made: {error.strerror}") from None
    return path


def lock(directory: Path) -> int:
    """Keep a second demo out of the directory until this process ends.  The descriptor holds the lock."""
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise DemoFailed(f"a demo is already running in {directory}: stop it, or choose another with --dir") from None
    return fd


def choose_port(wanted: int, what: str, say: Callable[[str], None]) -> int:
    """`wanted` if it is free, else one that is; says so then."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
            probe.listen(1)
        except OSError as error:
            reason = error.strerror
        else:
            return int(probe.getsockname()[1])
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    say(f"{what}: port {wanted} cannot be used ({reason}), taking {port}")
    return port
