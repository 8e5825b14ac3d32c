"""The libcrypt family: whatever crypt(3) of the system understands.

Called through ctypes, because Python's own `crypt` module is gone in 3.13.
"""
from __future__ import annotations

import ctypes
import functools
import hmac
import secrets
from typing import Any

from mailproxy.auth.schemes.base import SchemeError
from mailproxy.errors import DriverMissing

_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
_SALT_CHARS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: crypt(3) answers these two instead of a hash when it does not understand the setting.
_FAILURES = (b"*0", b"*1")


@functools.cache
def _library() -> Any:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name, use_errno=True)
        except OSError:
            continue
        library.crypt.restype = ctypes.c_char_p
        library.crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        return library
    raise DriverMissing("the CRYPT password schemes need the library libcrypt.so.1 (Debian: libcrypt1)")


def _crypt(plain: bytes, setting: bytes) -> bytes | None:
    if b"\0" in plain or b"\0" in setting:
        return None
    result: bytes | None = _library().crypt(plain, setting)
    return None if result is None or result in _FAILURES else result


def verify(plain: bytes, stored: bytes, user: str) -> bool:
    """Any setting that libcrypt knows; an empty one never matches."""
    if not stored:
        return False
    result = _crypt(plain, stored)
    return result is not None and hmac.compare_digest(result, stored)


def _salt(length: int) -> str:
    return "".join(secrets.choice(_SALT_CHARS) for _ in range(length))


def _made(plain: bytes, setting: str) -> bytes:
    result = _crypt(plain, setting.encode())
    if result is None:
        raise SchemeError("crypt() failed: the password or the number of rounds is not acceptable")
    return result


def generate_des(plain: bytes, rounds: int, user: str) -> bytes:
    return _made(plain, _salt(2))


def generate_md5(plain: bytes, rounds: int, user: str) -> bytes:
    return _made(plain, f"$1${_salt(8)}$")


def generate_blowfish(plain: bytes, rounds: int, user: str) -> bytes:
    # 128 bits of salt in 22 characters: the last one carries two bits only
    return _made(plain, f"$2y${min(max(rounds, 4), 31) if rounds else 5:02d}${_salt(21)}{secrets.choice('.Oeu')}")


def _sha(letter: str, plain: bytes, rounds: int) -> bytes:
    spelled = f"rounds={min(max(rounds, 1000), 999999999)}$" if rounds else ""
    return _made(plain, f"${letter}${spelled}{_salt(16)}$")


def generate_sha256(plain: bytes, rounds: int, user: str) -> bytes:
    return _sha("5", plain, rounds)


def generate_sha512(plain: bytes, rounds: int, user: str) -> bytes:
    return _sha("6", plain, rounds)
