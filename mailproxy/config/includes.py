"""Files of a configuration: which ones an include names, and their text.

Relative patterns are relative to the including file.  Limits: MAX_FILE bytes a file, MAX_FILES of one pattern.
"""
from __future__ import annotations

import errno
import glob
import itertools
import os
import re
import stat

MAX_FILE = 1 << 24
MAX_FILES = 10_000
#: Alternatives that one pattern may expand to.
_MAX_BRACES = 256
#: What another program may be writing to: who names these wants to wait for it.
PIPES = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
_BRACES = re.compile(r"\{([^{}]*)\}")


def expand_braces(pattern: str) -> list[str]:
    """`a{b,c}` -> ab, ac, in the order written."""
    pending, done = [pattern], list[str]()
    while pending and len(pending) + len(done) < _MAX_BRACES:
        text = pending.pop(0)
        found = next((m for m in _BRACES.finditer(text) if "," in m[1]), None)
        if found is None:
            done.append(text)
        else:
            pending[:0] = [text[:found.start()] + word + text[found.end():] for word in found[1].split(",")]
    return done + pending


def relative_to(path: str, name: str) -> str:
    """`name` as seen from the file `path`."""
    return os.path.join(os.path.dirname(path), name)


def matches(including: str, pattern: str) -> list[str]:
    """The files that an include of `pattern` means: alphabetical within each brace alternative.  More than MAX_FILES:
    there are too many."""
    found: list[str] = []
    for text in expand_braces(pattern):
        found += sorted(itertools.islice(glob.iglob(relative_to(including, text)), MAX_FILES + 1))
        if len(found) > MAX_FILES:
            break
    return found


def open_at_once(path: str, flags: int) -> int:
    """An opener that does not wait for whoever writes."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def read(path: str, limit: int = MAX_FILE) -> str:
    """The text of a file; bytes that are not UTF-8 survive as surrogates.  OSError: unreadable or too big."""
    with open(path, "rb", opener=open_at_once) as file:
        # a FIFO that nobody writes to, or a device, would hold up the start; a shell's `<(command)` is below /dev/fd
        if path.startswith(PIPES):
            os.set_blocking(file.fileno(), True)
        elif stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "Is a FIFO")
        data = file.read(limit + 1)
    if data is None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    if len(data) > limit:
        raise OSError(0, f"File is larger than {limit} bytes")
    return data.decode("utf-8", "surrogateescape")
