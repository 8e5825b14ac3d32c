"""Files of a configuration: which ones an include names, and their text.

Relative patterns are relative to the including file.  Limits: MAX_FILE bytes a file, MAX_FILES of one pattern.
"""
from __future__ import annotations

import glob
import os
import re
import stat

MAX_FILE = 1 << 24
MAX_FILES = 10_000
#: Alternatives that one pattern may expand to.
_MAX_BRACES = 256
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
    """The files that an include of `pattern` means: alphabetical within each brace alternative."""
    found: list[str] = []
    for text in expand_braces(pattern):
        found += sorted(glob.glob(relative_to(including, text)))
    return found[:MAX_FILES]


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read(path: str, limit: int = MAX_FILE) -> str:
    """The text of a file; bytes that are not UTF-8 survive as surrogates.  OSError: unreadable or too big."""
    with open(path, "rb", opener=_open_at_once) as file:
        # a FIFO that nobody writes to would hold up the start; a shell's `<(command)` is one below /dev
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode) and not path.startswith(("/dev/", "/proc/self/fd/")):
            raise OSError(0, "Is a FIFO")
        os.set_blocking(file.fileno(), True)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(0, f"File is larger than {limit} bytes")
    return data.decode("utf-8", "surrogateescape")
