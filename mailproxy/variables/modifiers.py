"""The one-letter modifiers and the offset/width cut of a %variable.

In: a value, and for the hashing letters the numbers in front of them.  Out: the changed value.  Works on characters,
which are bytes for all names that the default auth_username_chars accepts.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable

#: More letters than this in a row are not modifiers any more.
MAX_MODIFIERS = 10

_LOWER = {code: code + 32 for code in range(65, 91)}
_UPPER = {code: code - 32 for code in range(97, 123)}
_QUOTES = {ord(char): "\\" + char for char in "\"'\\"}

Change = Callable[[str], str]


def encode(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def lower(value: str) -> str:
    """ASCII letters only."""
    return value.lower() if value.isascii() else value.translate(_LOWER)


def upper(value: str) -> str:
    return value.upper() if value.isascii() else value.translate(_UPPER)


def _hexadecimal(value: str) -> str:
    digits = ""
    for char in value:                      # a number is what its leading digits say, 0 without any
        if char not in "0123456789":
            break
        digits += char
    return f"{int(digits or '0'):x}"


def _md5(value: str) -> str:
    return hashlib.md5(encode(value), usedforsecurity=False).hexdigest()


def _components(value: str) -> str:
    return ",dc=".join(value.split("."))


PLAIN: dict[str, Change] = {
    "L": lower,
    "U": upper,
    "E": lambda value: value.translate(_QUOTES),
    "X": _hexadecimal,
    "R": lambda value: value[::-1],
    "M": _md5,
    "D": _components,
    "T": lambda value: value.rstrip(" \t\r\n"),
}


def _digits(number: int, minimum: int) -> str:
    text = f"{number:x}"
    return text.rjust(minimum, "0") if minimum > 0 else text


def string_hash(value: str, minimum: int, modulo: int) -> str:
    """`H`: the shift-and-fold hash of compilers' symbol tables, 28 bits."""
    number = 0
    for byte in encode(value):
        number = ((number << 4) + byte) & 0xFFFFFFFF
        top = number & 0xF0000000
        if top:
            number ^= top >> 24
            number ^= top
    return _digits(number % modulo if modulo > 0 else number, minimum)


def md5_hash(value: str, minimum: int, modulo: int) -> str:
    """`N`: the first 8 bytes of the MD5 as a number, for an even spread."""
    number = int.from_bytes(hashlib.md5(encode(value), usedforsecurity=False).digest()[:8], "big")
    if modulo > 0:
        number %= modulo
    return _digits(number & 0xFFFFFFFF, minimum)


#: Letters that eat the numbers in front of them: width is the modulo, offset the least number of digits.
HASHING: dict[str, Callable[[str, int, int], str]] = {"H": string_hash, "N": md5_hash}


def cut(value: str, offset: int, width: int, zeros: bool) -> str:
    """The part of the value from `offset` on (negative: from the end), `width` characters (negative: all but so many;
    0: all).  With `zeros` a short value is padded and a long one left alone."""
    if offset < 0:
        if len(value) > -offset:
            value = value[offset:]
    elif offset:
        value = value[offset:]
    if width == 0:
        return value
    if zeros:
        return value.rjust(width, "0") if width > 0 else value
    return value[:width]
