"""What a master leaves behind for the next one and for the administrator's tools.

base_dir/master-fatal.lastlog: why the last master died; shown once at the next start.
state_dir/instances: a line `TIME<TAB>NAME<TAB>BASE_DIR<TAB>CONFIG` for every instance that was ever started here.
Limits: _MAX_LASTLOG bytes are read, _MAX_INSTANCES lines are kept.
"""
from __future__ import annotations

import contextlib
import os
import time

from mailproxy.log.pipe import sanitise

LASTLOG = "master-fatal.lastlog"
INSTANCES = "instances"
_MAX_LASTLOG = 4096
_MAX_INSTANCES = 1000


def leave_lastlog(base_dir: str, text: str) -> None:
    """Best effort: we are dying."""
    with contextlib.suppress(OSError):
        fd = os.open(os.path.join(base_dir, LASTLOG), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        os.write(fd, text.encode("utf-8", "backslashreplace"))
        os.close(fd)


def take_lastlog(base_dir: str) -> str:
    """The last words of the last master, if it had some; they are said once."""
    path = os.path.join(base_dir, LASTLOG)
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_LASTLOG)
        os.unlink(path)
    except OSError:                     # it ended well
        return ""
    return sanitise(text.decode("utf-8", "replace").strip())


def remember_instance(state_dir: str, name: str, base_dir: str, config: str) -> str:
    """Put our line into the list of instances; returns why that did not work."""
    path = os.path.join(state_dir, INSTANCES)
    fresh = "\t".join(map(_escape, (str(int(time.time())), name, base_dir, config)))
    temporary = f"{path}.{os.getpid()}"
    try:
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
            rows = [row for row in file.read().splitlines() if row.split("\t")[2:3] != [_escape(base_dir)]]
            fresh = "\n".join([*rows[-_MAX_INSTANCES + 1:], fresh])
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(fresh + "\n")
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    except OSError as failure:
        return f"{path} can't be written: {failure.strerror}"
    return ""


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
