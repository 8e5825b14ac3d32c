"""Plain and salted digests, PBKDF2 and the text schemes."""
from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from mailproxy.auth.schemes.base import Generate, SchemeError, Verify
from mailproxy.sasl import otp
from mailproxy.sasl.md import hmac_md5_contexts, md4
from mailproxy.sasl.mechanism import to_bytes, to_text

_SALT = 4
_PBKDF2_ROUNDS = 5000
#: What a stored hash may ask of us: more would be a denial of service by the database.
_PBKDF2_MOST = 10_000_000
_PBKDF2_SALT = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _hash(name: str) -> Callable[[bytes], bytes]:
    if name == "md4":                       # the libraries behind hashlib have forgotten it
        return md4
    return lambda data: hashlib.new(name, data, usedforsecurity=False).digest()


def digest(name: str) -> tuple[Verify, Generate]:
    """H(password)."""
    compute = _hash(name)

    def verify(plain: bytes, stored: bytes, user: str) -> bool:
        return hmac.compare_digest(compute(plain), stored)

    def generate(plain: bytes, rounds: int, user: str) -> bytes:
        return compute(plain)
    return verify, generate


def salted(name: str) -> tuple[Verify, Generate]:
    """H(password + salt) + salt."""
    compute = _hash(name)
    size = hashlib.new(name, usedforsecurity=False).digest_size

    def verify(plain: bytes, stored: bytes, user: str) -> bool:
        if len(stored) < size:
            raise SchemeError("stored hash is too short")
        return hmac.compare_digest(compute(plain + stored[size:]), stored[:size])

    def generate(plain: bytes, rounds: int, user: str) -> bytes:
        salt = secrets.token_bytes(_SALT)
        return compute(plain + salt) + salt
    return verify, generate


def verify_plain(plain: bytes, stored: bytes, user: str) -> bool:
    return hmac.compare_digest(plain, stored)


def generate_plain(plain: bytes, rounds: int, user: str) -> bytes:
    return plain


def verify_truncated(plain: bytes, stored: bytes, user: str) -> bool:
    """`N-prefix`: only the first N characters count."""
    length, dash, prefix = stored.partition(b"-")
    if not dash or not length.isdigit():
        raise SchemeError("PLAIN-TRUNC missing length: prefix")
    return hmac.compare_digest(plain[:int(length[:9])], prefix)


def generate_truncated(plain: bytes, rounds: int, user: str) -> bytes:
    return b"%d-%s" % (len(plain), plain)


def _pbkdf2(plain: bytes, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha1", plain, salt, rounds).hex().encode()


def verify_pbkdf2(plain: bytes, stored: bytes, user: str) -> bool:
    """`$1$salt$rounds$hex`"""
    fields = stored.split(b"$")
    if len(fields) != 5 or fields[0] or fields[1] != b"1" or not fields[3].isdigit():
        raise SchemeError("invalid PBKDF2 data")
    rounds = int(fields[3][:12])
    if not 1 <= rounds <= _PBKDF2_MOST:
        raise SchemeError("invalid number of PBKDF2 rounds")
    return hmac.compare_digest(_pbkdf2(plain, fields[2], rounds), fields[4].lower())


def generate_pbkdf2(plain: bytes, rounds: int, user: str) -> bytes:
    salt = "".join(secrets.choice(_PBKDF2_SALT) for _ in range(16)).encode()
    rounds = min(rounds or _PBKDF2_ROUNDS, _PBKDF2_MOST)
    return b"$1$%s$%d$%s" % (salt, rounds, _pbkdf2(plain, salt, rounds))


def digest_md5_input(plain: bytes, user: str) -> bytes:
    """The realm is what follows the last @."""
    name, at, realm = user.rpartition("@")
    return b"%s:%s:%s" % (to_bytes(name if at else realm), to_bytes(realm if at else ""), plain)


def verify_digest_md5(plain: bytes, stored: bytes, user: str) -> bool:
    return hmac.compare_digest(hashlib.md5(digest_md5_input(plain, user), usedforsecurity=False).digest(), stored)


def generate_digest_md5(plain: bytes, rounds: int, user: str) -> bytes:
    if not user:
        raise SchemeError("digest_md5_generate(): username not given")
    return hashlib.md5(digest_md5_input(plain, user), usedforsecurity=False).digest()


def verify_cram_md5(plain: bytes, stored: bytes, user: str) -> bool:
    return hmac.compare_digest(hmac_md5_contexts(plain), stored)


def generate_cram_md5(plain: bytes, rounds: int, user: str) -> bytes:
    return hmac_md5_contexts(plain)


def verify_otp(plain: bytes, stored: bytes, user: str) -> bool:
    """By the passphrase from which the one-time passwords are made."""
    state = otp.parse(to_text(stored))
    if state is None:
        raise SchemeError("invalid OTP data")
    algorithm, sequence, seed, held = state
    return hmac.compare_digest(otp.password(algorithm, sequence, seed, plain), held)


def generate_otp(plain: bytes, rounds: int, user: str) -> bytes:
    seed = secrets.token_hex(8)
    value = otp.password("sha1", otp.FIRST_SEQUENCE, seed, plain)
    return f"sha1 {otp.FIRST_SEQUENCE} {seed} {value.hex()}".encode()
