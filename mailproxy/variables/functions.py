"""The built-in functions of `%{...}`: hashes, `if`, environment, process facts.

In: the text between the braces and a way to compile what is nested in it.  Out: a getter, which is called per request.
"""
from __future__ import annotations

import base64
import fnmatch
import hashlib
import operator
import os
import re
import socket
from collections.abc import Callable
from typing import Protocol

from mailproxy.errors import MailproxyError
from mailproxy.sasl.md import md4
from mailproxy.variables.modifiers import encode


class ExpandError(MailproxyError):
    """A template cannot be expanded; the text is fit for the log."""


class Values(Protocol):
    """Where the values come from: a dict will do."""

    def __getitem__(self, key: str, /) -> str: ...


Getter = Callable[[Values], str]
#: A name (as spelled between the braces) -> its getter.
Lookup = Callable[[str], Getter]

HASHES = {"md4": "md4", "md5": "md5", "sha1": "sha1", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512",
          "sha3-256": "sha3_256", "sha3-512": "sha3_512"}
#: A template is an administrator's, but a typing error must not stop the server for minutes.
_MAX_ROUNDS = 1_000_000
_PKCS5_BYTES = 336


def failing(text: str) -> Getter:
    def fail(_values: Values) -> str:
        raise ExpandError(text)
    return fail


def hostname() -> str:
    return socket.gethostname()


def fact(name: str) -> Getter | None:
    """The functions without inputs of the request."""
    if name == "hostname":
        host = hostname()
        return lambda _values: host
    if name == "pid":
        return lambda _values: str(os.getpid())
    if name == "uid":
        return lambda _values: str(os.getuid())
    if name == "gid":
        return lambda _values: str(os.getgid())
    if name.startswith("env:"):
        variable, _, default = name[4:].partition(":")
        text = os.environ.get(variable, default)
        return lambda _values: text
    return None


def hashing(name: str, lookup: Lookup) -> Getter | None:
    """`sha256;rounds=2,salt=x:user`; options may stand in any order."""
    head, _, field = name.partition(":")
    algorithm, _, options_text = head.partition(";")
    if algorithm != "pkcs5" and algorithm not in HASHES:
        return None
    if not field:
        return failing("Unknown variable '%'")
    options = dict(_option(text) for text in options_text.split(",") if text)
    try:
        rounds = int(options.get("rounds", "1" if algorithm != "pkcs5" else "2048"))
        truncate = int(options.get("truncate", "0"))
    except ValueError:
        return failing(f"{algorithm}: rounds and truncate are numbers")
    if not 1 <= rounds <= _MAX_ROUNDS or truncate < 0:
        return failing(f"{algorithm}: rounds must be 1..{_MAX_ROUNDS}")
    salt = encode(options.get("salt", ""))
    form = options.get("format", "hex")
    inner = lookup(field)

    def compute(values: Values) -> str:
        data = encode(inner(values))
        return _show(_rounds(algorithm, data, salt, rounds), truncate, form)
    return compute


def _option(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key.strip(), value


def _rounds(algorithm: str, data: bytes, salt: bytes, rounds: int) -> bytes:
    if algorithm == "pkcs5":
        return hashlib.pbkdf2_hmac("sha256", data, salt, rounds, _PKCS5_BYTES)
    try:
        for _ in range(rounds):
            data = md4(salt + data) if algorithm == "md4" else \
                hashlib.new(HASHES[algorithm], salt + data, usedforsecurity=False).digest()
    except ValueError:
        raise ExpandError(f"hash function '{algorithm}' is not available on this system") from None
    return data


def _show(digest: bytes, truncate: int, form: str) -> str:
    if truncate and truncate < len(digest) * 8:
        size = (truncate + 7) // 8
        number = int.from_bytes(digest[:size], "big") >> (size * 8 - truncate)
        digest = number.to_bytes(size, "big")
    if form == "base64":
        return base64.b64encode(digest).decode()
    text = digest.hex()
    return text.upper() if form == "hexuc" else text


_NUMERIC: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "!=": operator.ne}
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "eq": operator.eq, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "ne": operator.ne,
    "*": lambda text, mask: wildcard(mask).match(text) is not None,
    "!*": lambda text, mask: wildcard(mask).match(text) is None,
    "~": lambda text, pattern: _search(pattern, text),
    "!~": lambda text, pattern: not _search(pattern, text)}


def wildcard(mask: str) -> re.Pattern[str]:
    """`*` and `?`; nothing else is special."""
    return re.compile(fnmatch.translate(mask.replace("[", "[[]")))


def _search(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error as error:
        raise ExpandError(f"if: Invalid regex: {error}") from None


def _number(text: str, side: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ExpandError(f"if: {text} ({side}) is not a number") from None


def condition(parts: list[Getter], operation: str) -> Getter:
    """`if` with its parts compiled: left, right, yes, no."""
    left, right, yes, no = parts
    number = _NUMERIC.get(operation)
    if number is not None:
        def by_number(values: Values) -> str:
            same = number(_number(left(values), "lhs"), _number(right(values), "rhs"))
            return yes(values) if same else no(values)
        return by_number
    test = _TEXT.get(operation)
    if test is None:
        return failing(f"if: Unsupported comparator '{operation}'")

    def by_text(values: Values) -> str:
        return yes(values) if test(left(values), right(values)) else no(values)
    return by_text
