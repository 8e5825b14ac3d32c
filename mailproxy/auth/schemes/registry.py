"""The table of schemes, prefixes and encodings.

In: stored passwords as databases hold them, plaintext as clients send it (str with surrogateescape).
Out: match or not; SchemeError (unknown scheme, undecodable data) and DriverMissing otherwise.
"""
from __future__ import annotations

import base64
import binascii
import hmac

from mailproxy.auth.schemes import argon2, crypt, digests
from mailproxy.auth.schemes.base import BASE64, HEX, TEXT, Generate, Scheme, SchemeError, UnknownScheme, Verify
from mailproxy.auth.schemes.scram import scram as scram_pair
from mailproxy.sasl import scram


def _verify_md5(plain: bytes, stored: bytes, user: str) -> bool:
    if stored.startswith(b"$1$"):
        return crypt.verify(plain, stored, user)
    return _digest_md5[0](plain, _unpack(stored.decode("ascii", "replace"), 16), user)


def _unpack(data: str, size: int) -> bytes:
    return _from_hex(data) if len(data) == 2 * size else _from_base64(data)


_digest_md5 = digests.digest("md5")


def _row(name: str, native: int, size: int, pair: tuple[Verify, Generate]) -> Scheme:
    return Scheme(name, native, size, *pair)


_PLAIN = (digests.verify_plain, digests.generate_plain)
_CRAM_MD5 = (digests.verify_cram_md5, digests.generate_cram_md5)
_SCHEMES = {row.name: row for row in (
    _row("PLAIN", TEXT, 0, _PLAIN),
    _row("CLEAR", TEXT, 0, _PLAIN),
    _row("CLEARTEXT", TEXT, 0, _PLAIN),
    _row("PLAIN-TRUNC", TEXT, 0, (digests.verify_truncated, digests.generate_truncated)),
    _row("CRYPT", TEXT, 0, (crypt.verify, crypt.generate_blowfish)),
    _row("DES-CRYPT", TEXT, 0, (crypt.verify, crypt.generate_des)),
    _row("MD5-CRYPT", TEXT, 0, (crypt.verify, crypt.generate_md5)),
    _row("SHA256-CRYPT", TEXT, 0, (crypt.verify, crypt.generate_sha256)),
    _row("SHA512-CRYPT", TEXT, 0, (crypt.verify, crypt.generate_sha512)),
    _row("BLF-CRYPT", TEXT, 0, (crypt.verify, crypt.generate_blowfish)),
    _row("MD5", TEXT, 0, (_verify_md5, crypt.generate_md5)),
    _row("PLAIN-MD5", HEX, 16, _digest_md5),
    _row("LDAP-MD5", BASE64, 16, _digest_md5),
    _row("SMD5", BASE64, 0, digests.salted("md5")),
    _row("SHA", BASE64, 20, digests.digest("sha1")),
    _row("SHA1", BASE64, 20, digests.digest("sha1")),
    _row("SHA256", BASE64, 32, digests.digest("sha256")),
    _row("SHA512", BASE64, 64, digests.digest("sha512")),
    _row("SSHA", BASE64, 0, digests.salted("sha1")),
    _row("SSHA256", BASE64, 0, digests.salted("sha256")),
    _row("SSHA512", BASE64, 0, digests.salted("sha512")),
    _row("ARGON2I", TEXT, 0, (argon2.verify, argon2.generate_i)),
    _row("ARGON2ID", TEXT, 0, (argon2.verify, argon2.generate_id)),
    _row("PBKDF2", TEXT, 0, (digests.verify_pbkdf2, digests.generate_pbkdf2)),
    _row("DIGEST-MD5", HEX, 16, (digests.verify_digest_md5, digests.generate_digest_md5)),
    _row("CRAM-MD5", HEX, 32, _CRAM_MD5),
    _row("HMAC-MD5", HEX, 32, _CRAM_MD5),
    _row("PLAIN-MD4", HEX, 16, digests.digest("md4")),
    _row("OTP", TEXT, 0, (digests.verify_otp, digests.generate_otp)),
    _row("SCRAM-SHA-1", TEXT, 0, scram_pair("sha1")),
    _row("SCRAM-SHA-256", TEXT, 0, scram_pair("sha256")),
)}
_CLEAR = frozenset(("PLAIN", "CLEAR", "CLEARTEXT"))
#: Those that take long: milliseconds, or as long as whoever made the hash wanted.
_SLOW = frozenset(("SHA256-CRYPT", "SHA512-CRYPT", "BLF-CRYPT", "ARGON2I", "ARGON2ID", "PBKDF2", "SCRAM-SHA-1",
                   "SCRAM-SHA-256", "OTP"))
_QUICK_CRYPT = "$1$"
#: What a one-time password's owner has in mind is not what a database holds in clear.
_UNMAKEABLE = frozenset(("OTP",))
_ENCODINGS = {"HEX": HEX, "B64": BASE64, "BASE64": BASE64}


def names() -> tuple[str, ...]:
    return tuple(_SCHEMES)


def split(stored: str, default: str) -> tuple[str, str]:
    """`{SCHEME}data` -> (scheme as spelled, data); without a prefix the default scheme."""
    if stored.startswith("{"):
        end = stored.find("}")
        if end > 0:
            return stored[1:end], stored[end + 1:]
    return default, stored


def detect(stored: str, default: str) -> str:
    """A raw value of a database that may hold bare MD5-CRYPT: the value with its prefix."""
    if stored.startswith("{") and "}" in stored:
        return stored
    if stored.startswith("$1$"):
        fields = stored.split("$")
        if len(fields) >= 4:
            return "{MD5-CRYPT}$1$" + fields[2] + "$" + fields[3][:22]
    return "{" + default + "}" + stored


def verify(stored: str, plain: str, user: str = "") -> bool:
    """`stored` carries its {SCHEME} prefix."""
    if stored.startswith("{PLAIN}"):                # the common case of caches and static databases
        return hmac.compare_digest(stored[7:].encode("utf-8", "surrogateescape"),
                                   plain.encode("utf-8", "surrogateescape"))
    spelled, data = split(stored, "")
    scheme, encoding = _find(spelled)
    try:
        raw = _decode(scheme, encoding, data)
        return scheme.verify(plain.encode("utf-8", "surrogateescape"), raw, user)
    except UnknownScheme:
        raise
    except SchemeError as error:
        raise SchemeError(f"Password data is not valid for scheme {spelled}: {error}") from None


def known(spelled: str) -> None:
    """UnknownScheme, if it is not."""
    try:
        _find(spelled)
    except UnknownScheme:
        raise UnknownScheme(f"Unknown scheme: {spelled.upper()}") from None


def slow(stored: str) -> bool:
    """Does comparing a password with this take so long that others would wait?"""
    spelled, data = split(stored, "")
    name = spelled.upper().partition(".")[0]
    return name in _SLOW or (name == "CRYPT" and data.startswith("$") and not data.startswith(_QUICK_CRYPT))


def made_slowly(stored: str, wanted: str) -> bool:
    """Would `held` have to compute for long?"""
    return wanted in _SLOW and split(stored, "")[0].upper().partition(".")[0] in _CLEAR


def fits(stored: str, wanted: str) -> str:
    """Why the scheme `wanted` cannot be had of what is stored; "" when it can.  SchemeError as for `verify`."""
    scheme, encoding = _find(split(stored, "")[0])
    if scheme.name in _CLEAR:
        return f"Requested {wanted} scheme, but we have only {scheme.name}" if wanted in _UNMAKEABLE else ""
    if scheme.verify is not _SCHEMES[wanted].verify:
        return f"Requested {wanted} scheme, but we have only {scheme.name}"
    _decoded(scheme, encoding, stored)
    return ""


def held(stored: str, wanted: str, user: str = "", salt: bytes = b"") -> bytes:
    """What is stored as data of the scheme `wanted`, made of the password if that is stored in clear (for SCRAM with
    this salt).  `fits` says whether it can be had."""
    scheme, encoding = _find(split(stored, "")[0])
    raw = _decoded(scheme, encoding, stored)
    if scheme.name not in _CLEAR or wanted in _CLEAR:
        return raw
    if wanted in scram.HASHES:
        return scram.stored(scram.HASHES[wanted], raw, salt)
    return _SCHEMES[wanted].generate(raw, 0, user)


def _decoded(scheme: Scheme, encoding: int | None, stored: str) -> bytes:
    spelled, data = split(stored, "")
    try:
        return _decode(scheme, encoding, data)
    except SchemeError as error:
        raise SchemeError(f"Password data is not valid for scheme {spelled}: {error}") from None


def generate(scheme_name: str, plain: str, rounds: int = 0, user: str = "") -> str:
    """A fresh `{SCHEME}data`; the scheme name may carry an encoding suffix."""
    scheme, encoding = _find(scheme_name)
    raw = scheme.generate(plain.encode("utf-8", "surrogateescape"), rounds, user)
    kind = scheme.native if encoding is None else encoding
    if kind == TEXT:
        text = raw.decode("utf-8", "surrogateescape")
    else:
        text = raw.hex() if kind == HEX else base64.b64encode(raw).decode()
    return "{" + scheme_name.upper() + "}" + text


def _find(spelled: str) -> tuple[Scheme, int | None]:
    name, dot, suffix = spelled.upper().partition(".")
    scheme = _SCHEMES.get(name)
    encoding = _ENCODINGS.get(suffix) if dot else None
    if scheme is None or (dot and encoding is None):
        raise UnknownScheme(f"Unknown scheme {spelled.upper()}")
    return scheme, encoding


def _decode(scheme: Scheme, encoding: int | None, data: str) -> bytes:
    if encoding == HEX:
        return _from_hex(data)
    if encoding == BASE64:
        return _from_base64(data)
    if scheme.native == TEXT:
        return data.encode("utf-8", "surrogateescape")
    raw = _unpack(data, scheme.size) if scheme.size else _from_base64(data)
    if scheme.size and len(raw) != scheme.size:
        raise SchemeError("Input length isn't valid")
    return raw


def _from_hex(data: str) -> bytes:
    try:
        return bytes.fromhex(data)
    except ValueError:
        raise SchemeError("Input isn't valid HEX encoded data") from None


def _from_base64(data: str) -> bytes:
    try:
        return binascii.a2b_base64(data.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise SchemeError("Input isn't valid base64 encoded data") from None
