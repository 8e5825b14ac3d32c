"""ARGON2I and ARGON2ID, through the optional argon2 bindings."""
from __future__ import annotations

import secrets
from typing import Any

from mailproxy.auth.schemes.base import SchemeError
from mailproxy.errors import DriverMissing

#: KiB of memory by number of rounds: libsodium's levels.  The first row is the default.
_ARGON2I = ((4, 32768), (6, 131072), (8, 524288))
_ARGON2ID = ((3, 65536), (3, 262144), (4, 1048576))
_FEWEST = 3


def _bindings() -> Any:
    try:
        import argon2.low_level
    except ImportError:
        raise DriverMissing("the ARGON2 password schemes need the package python3-argon2 (PyPI: argon2-cffi)") from None
    return argon2


def verify(plain: bytes, stored: bytes, user: str) -> bool:
    argon2 = _bindings()
    if stored.startswith(b"$argon2id$"):
        kind = argon2.low_level.Type.ID
    elif stored.startswith(b"$argon2i$"):
        kind = argon2.low_level.Type.I
    else:
        raise SchemeError("not an argon2 hash")
    try:
        return bool(argon2.low_level.verify_secret(stored, plain, kind))
    except argon2.exceptions.VerifyMismatchError:
        return False
    except argon2.exceptions.VerificationError as error:
        raise SchemeError(f"invalid argon2 data: {error}") from None


def _generate(plain: bytes, levels: tuple[tuple[int, int], ...], rounds: int, kind_name: str) -> bytes:
    argon2 = _bindings()
    kind = getattr(argon2.low_level.Type, kind_name)
    default_rounds, memory = levels[0]
    for least, more in levels[1:]:
        if rounds >= least:
            memory = more
    made: bytes = argon2.low_level.hash_secret(
        plain, secrets.token_bytes(16), time_cost=rounds or default_rounds, memory_cost=memory, parallelism=1,
        hash_len=32, type=kind)
    return made


def generate_i(plain: bytes, rounds: int, user: str) -> bytes:
    if rounds and rounds < _FEWEST:
        raise SchemeError(f"ARGON2I needs at least {_FEWEST} rounds")
    return _generate(plain, _ARGON2I, rounds, "I")


def generate_id(plain: bytes, rounds: int, user: str) -> bytes:
    if 0 < rounds < _FEWEST:                # the level of few rounds, with as many as there must be
        return _generate(plain, _ARGON2ID[:1], _FEWEST, "ID")
    return _generate(plain, _ARGON2ID, rounds, "ID")
