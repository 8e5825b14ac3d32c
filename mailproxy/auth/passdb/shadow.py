"""shadow: hashes from the system's shadow database, which only root may read.  Blocking: for auth-workers.

Asked through the C library, since newer Pythons have no module for it.
"""
from __future__ import annotations

import ctypes
import os
from typing import Any

from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, failure, unknown
from mailproxy.auth.passdb.passwd import account_answer
from mailproxy.errors import DriverMissing
from mailproxy.variables import Values

#: Bytes for one account's texts; the C library says ERANGE beyond.
_BUFFER = 65536


class _Account(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("password", ctypes.c_char_p),
                *((name, ctypes.c_long) for name in ("changed", "least", "most", "warn", "inactive", "expires")),
                ("flags", ctypes.c_ulong)]


def _function() -> Any:
    try:
        function = ctypes.CDLL(None).getspnam_r
    except (OSError, AttributeError):
        raise DriverMissing("shadow: the C library has no getspnam_r()") from None
    function.argtypes = (ctypes.c_char_p, ctypes.POINTER(_Account), ctypes.c_char_p, ctypes.c_size_t,
                         ctypes.POINTER(ctypes.POINTER(_Account)))
    return function


class Shadow:
    __slots__ = ("_ask",)

    default_scheme = "CRYPT"
    blocking = True
    variables: tuple[str, ...] | None = ("user",)

    def __init__(self, args: str) -> None:
        if args.removeprefix("blocking=yes").removeprefix("blocking=no"):
            raise ArgsInvalid(f"shadow: Unknown setting: {args}")
        self._ask = _function()

    def open(self) -> None:
        """The C library opens what it needs."""

    def close(self) -> None:
        """Nothing stays open."""

    def lookup(self, values: Values) -> Answer:
        user = values["user"]
        if "\0" in user:
            return unknown()
        account, buffer = _Account(), ctypes.create_string_buffer(_BUFFER)
        found = ctypes.POINTER(_Account)()
        number = self._ask(user.encode("utf-8", "surrogateescape"), ctypes.byref(account), buffer, _BUFFER,
                           ctypes.byref(found))
        if number:
            return failure(f"getspnam() failed: {os.strerror(number)}")
        if not found:
            return unknown()
        return account_answer(_text(account.name), _text(account.password), self.default_scheme)


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "surrogateescape")
