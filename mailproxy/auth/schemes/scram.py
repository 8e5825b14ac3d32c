"""SCRAM-SHA-1 and SCRAM-SHA-256 as stored formats: `iterations,salt,StoredKey,ServerKey`."""
from __future__ import annotations

import binascii
import hmac
import secrets

from mailproxy.auth.schemes.base import Generate, SchemeError, Verify
from mailproxy.sasl.scram import ITERATIONS, derive, stored

_MOST = 10_000_000
_SALT = 16


def scram(name: str) -> tuple[Verify, Generate]:
    """The pair of functions for one hash algorithm."""
    def verify(plain: bytes, data: bytes, user: str) -> bool:
        fields = data.split(b",")
        try:
            rounds = int(fields[0])
            salt, key, _server = (binascii.a2b_base64(field, strict_mode=True) for field in fields[1:])
        except (ValueError, binascii.Error):
            raise SchemeError("invalid SCRAM data") from None
        if not ITERATIONS <= rounds <= _MOST:
            raise SchemeError("invalid SCRAM data")
        return hmac.compare_digest(derive(name, plain, salt, rounds)[1], key)

    def generate(plain: bytes, rounds: int, user: str) -> bytes:
        return stored(name, plain, secrets.token_bytes(_SALT))
    return verify, generate
