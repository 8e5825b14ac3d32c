"""Users and groups of the system, written as names or numbers.

In: a text.  Out: the number as text, None if the system knows no such account (or it is root's).
"""
from __future__ import annotations

import grp
import pwd

#: The highest number that the kernel takes; the one above it means "none".
_MOST = 2 ** 32 - 2


def user_number(text: str) -> str | None:
    if text.isascii() and text.isdigit():
        return _checked(text)
    try:
        return _checked(str(pwd.getpwnam(text).pw_uid))
    except (KeyError, ValueError):          # ValueError: a NUL in the name
        return None


def group_number(text: str) -> str | None:
    if text.isascii() and text.isdigit():
        return _checked(text)
    try:
        return _checked(str(grp.getgrnam(text).gr_gid))
    except (KeyError, ValueError):
        return None


def _checked(number: str) -> str | None:
    return number if len(number) <= 10 and 0 < int(number) <= _MOST else None
