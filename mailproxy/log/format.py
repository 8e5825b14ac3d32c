"""The look of a log line: `TIMESTAMP PREFIX: Type: text`.

In: the `log_timestamp` setting and the wall clock.  Out: bytes to put in front of a line.
It must not know where lines come from or go to.  A timestamp costs one strftime a second, however many lines there are.
"""
from __future__ import annotations

import time

#: Names of the types, in the order of their numbers in the pipe protocol.
TYPES = ("Debug", "Info", "Warning", "Error", "Fatal", "Panic")

_USECS = "%{usecs}"


class Stamp:
    """A compiled `log_timestamp`: strftime's conversions plus `%{usecs}`."""

    __slots__ = ("_cached", "_second", "_template", "_usecs")

    def __init__(self, template: str) -> None:
        self._usecs = _USECS in template
        # strftime must not see the braces; a byte that no template contains holds the place
        self._template = template.replace(_USECS, "\x00")
        self._second = -1
        self._cached = b""

    def at(self, now: float) -> bytes:
        """The timestamp for a time in seconds since the epoch."""
        second = int(now)
        if second != self._second:
            self._second = second
            moment = time.localtime(second)
            parts = (time.strftime(part, moment) if part else "" for part in self._template.split("\x00"))
            self._cached = "\x00".join(parts).encode("utf-8", "surrogateescape")
        if self._usecs:
            return self._cached.replace(b"\x00", b"%06d" % int((now - second) * 1_000_000))
        return self._cached


def heads(prefix: str) -> list[bytes]:
    """`PREFIX: Type: ` for every type."""
    return [f"{prefix}: {name}: ".encode() for name in TYPES]
