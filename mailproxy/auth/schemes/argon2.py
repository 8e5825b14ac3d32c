"""ARGON2I and ARGON2ID, through the optional argon2 bindings."""
from __future__ import annotations

import secrets
from typing import Any

from mailproxy.auth.schemes.base import SchemeError
from mailproxy.errors import DriverMissing

_ARGON2I = (32768, 4)
_ARGON2ID = (65536, 3)


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


def _generate(plain: bytes, memory: int, rounds: int, kind_name: str) -> bytes:
    argon2 = _bindings()
    kind = getattr(argon2.low_level.Type, kind_name)
    made: bytes = argon2.low_level.hash_secret(plain, secrets.token_bytes(16), time_cost=rounds, memory_cost=memory,
                                               parallelism=1, hash_len=32, type=kind)
    return made


def generate_i(plain: bytes, rounds: int, user: str) -> bytes:
    return _generate(plain, _ARGON2I[0], rounds or _ARGON2I[1], "I")


def generate_id(plain: bytes, rounds: int, user: str) -> bytes:
    return _generate(plain, _ARGON2ID[0], max(rounds, 3) if rounds else _ARGON2ID[1], "ID")
