"""SCRAM-SHA-1 and SCRAM-SHA-256 as stored formats: `iterations,salt,StoredKey,ServerKey`."""
from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from mailproxy.auth.schemes.base import Generate, SchemeError, Verify

_FEWEST, _MOST = 4096, 10_000_000


def scram(name: str) -> tuple[Verify, Generate]:
    """The pair of functions for one hash algorithm."""
    def keys(plain: bytes, salt: bytes, rounds: int) -> tuple[bytes, bytes]:
        salted = hashlib.pbkdf2_hmac(name, plain, salt, rounds)
        client = hmac.digest(salted, b"Client Key", name)
        return hashlib.new(name, client).digest(), hmac.digest(salted, b"Server Key", name)

    def verify(plain: bytes, stored: bytes, user: str) -> bool:
        fields = stored.split(b",")
        try:
            rounds = int(fields[0])
            salt, key = (binascii.a2b_base64(field, strict_mode=True) for field in fields[1:3])
        except (ValueError, binascii.Error):
            raise SchemeError("invalid SCRAM data") from None
        if len(fields) != 4 or not _FEWEST <= rounds <= _MOST:
            raise SchemeError("invalid SCRAM data")
        return hmac.compare_digest(keys(plain, salt, rounds)[0], key)

    def generate(plain: bytes, rounds: int, user: str) -> bytes:
        salt = secrets.token_bytes(16)
        stored, server = keys(plain, salt, _FEWEST)
        return b",".join((b"%d" % _FEWEST, *map(base64.b64encode, (salt, stored, server))))
    return verify, generate
