"""JSON web tokens (RFC 7519) that are checked with keys of our own, without asking whoever made them.

In: a token, and a store of keys, asked for `shared/<azp>/<algorithm>/<kid>`: base64 for HMAC, PEM or JWK for the rest.
Out: what the token claims, or TokenRefused.  The algorithm is part of the key's name, so a token cannot make us take a
public key for an HMAC secret.  StoreFailed of the store goes through.
"""
from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mailproxy.auth.jsonobject import NotAnObject, as_text, parse
from mailproxy.errors import DriverMissing, MailproxyError

#: Bytes of a token.
MAX_TOKEN = 16384
#: Seconds that a key is used before it is looked up again, and how many are kept.
KEY_SECONDS = 60.0
MAX_KEYS = 1000
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
_ALGORITHMS = frozenset(family + bits for family in ("HS", "RS", "PS", "ES") for bits in _HASHES)
_NUMBER = re.compile(r"[0-9]{1,18}")


class TokenRefused(MailproxyError):
    """The text is for the log."""


def check() -> None:
    """DriverMissing unless signatures can be verified."""
    try:
        import jwt.algorithms  # noqa: F401
        from cryptography.hazmat.primitives import hashes  # noqa: F401
    except ImportError:
        raise DriverMissing("oauth2: introspection_mode = local needs the packages python3-jwt and "
                            "python3-cryptography (pip: mailproxy[oauth2])") from None


class Validator:
    """`ask`: the key store's lookup.  `issuers` empty: any.  `scope`: words that all must be there."""

    __slots__ = ("_ask", "_clock", "_issuers", "_keys", "_scope")

    def __init__(self, ask: Callable[[str], str | None], issuers: Sequence[str], scope: str,
                 clock: Callable[[], float] = time.time) -> None:
        self._ask = ask
        self._issuers = frozenset(issuers)
        self._scope = scope.split()
        self._clock = clock
        self._keys: dict[str, tuple[Callable[[bytes, bytes], bool], float]] = {}

    def claims(self, token: str) -> dict[str, Any]:
        parts = token.split(".")
        if len(parts) != 3 or len(token) > MAX_TOKEN or not token.isascii():
            raise TokenRefused("Not a JWT token")
        header, body = (_object(part) for part in parts[:2])
        algorithm = _algorithm(header)
        self._times(body)
        self._issued(body)
        verify = self._key(algorithm, _name(body.get("azp", "default")), _key_id(header))
        if not verify(f"{parts[0]}.{parts[1]}".encode(), _decoded(parts[2])):
            raise TokenRefused("Incorrect JWT signature" if algorithm.startswith("HS") else "Bad signature")
        return body

    def _times(self, body: dict[str, Any]) -> None:
        if not as_text(body.get("sub")):
            raise TokenRefused("Missing 'sub' field")
        now = int(self._clock())
        expires, begins, issued = (_time(body, name) for name in ("exp", "nbf", "iat"))
        if expires is None:
            raise TokenRefused("Missing 'exp' field")
        if begins is not None and begins > now:
            raise TokenRefused("Token is not valid yet")
        if issued is not None and issued > now:
            raise TokenRefused("Token is issued in future")
        if expires < now:
            raise TokenRefused("Token has expired")

    def _issued(self, body: dict[str, Any]) -> None:
        if self._issuers:
            issuer = as_text(body.get("iss"))
            if not issuer:
                raise TokenRefused("Token is missing 'iss' field")
            if issuer not in self._issuers:
                raise TokenRefused(f"Issuer '{issuer}' is not allowed")
        if self._scope and not as_text(body.get("scope")):
            raise TokenRefused("scope set but not found in token")

    def _key(self, algorithm: str, azp: str, kid: str) -> Callable[[bytes, bytes], bool]:
        name = f"shared/{azp}/{algorithm}/{kid}"
        now = self._clock()
        known = self._keys.get(name)
        if known is not None and 0 <= now - known[1] < KEY_SECONDS:
            return known[0]
        # no name may lead out of its place, whatever the store makes of names
        text = self._ask(name) if azp not in ("", ".", "..") and kid not in (".", "..") and "\0" not in name else None
        if not text:
            raise TokenRefused(f"{algorithm} key '{kid}' not found")
        verify = _hmac_key(algorithm, text) if algorithm.startswith("HS") else _public_key(algorithm, text)
        if len(self._keys) >= MAX_KEYS:
            del self._keys[next(iter(self._keys))]
        self._keys[name] = verify, now
        return verify


def _decoded(part: str) -> bytes:
    if len(part) % 4 == 1 or not re.fullmatch(r"[A-Za-z0-9_-]*", part):
        raise TokenRefused("Not a JWT token")
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _object(part: str) -> dict[str, Any]:
    try:
        return parse(_decoded(part))
    except NotAnObject as error:
        raise TokenRefused(str(error)) from None


def _algorithm(header: dict[str, Any]) -> str:
    if as_text(header.get("typ")) != "JWT":
        raise TokenRefused("Cannot find 'typ' field")
    if "crit" in header:                    # RFC 7515 4.1.11: what is critical must be understood
        raise TokenRefused("Header has 'crit' field")
    algorithm = as_text(header.get("alg")).upper()
    if not algorithm:
        raise TokenRefused("Cannot find 'alg' field")
    if algorithm not in _ALGORITHMS:
        raise TokenRefused(f"Unsupported algorithm '{algorithm}'")
    return algorithm


def _name(value: Any) -> str:
    """A claim as one step of a path."""
    return as_text(value).replace("%", "%25").replace("/", "%2f")


def _key_id(header: dict[str, Any]) -> str:
    kid = _name(header.get("kid", "default"))
    if not kid:
        raise TokenRefused("'kid' field is empty")
    return kid


def _time(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    text = as_text(value)
    if not _NUMBER.fullmatch(text):
        raise TokenRefused(f"Malformed '{name}' field")
    return int(text)


def _hmac_key(algorithm: str, text: str) -> Callable[[bytes, bytes], bool]:
    try:
        key = base64.b64decode("".join(text.split()), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:                             # an empty key is one that everybody has
        raise TokenRefused("Invalid base64 encoded key")
    digest = _HASHES[algorithm[2:]]
    return lambda message, signature: hmac.compare_digest(hmac.new(key, message, digest).digest(), signature)


def _public_key(algorithm: str, text: str) -> Callable[[bytes, bytes], bool]:
    from jwt import InvalidKeyError
    from jwt.algorithms import get_default_algorithms
    how: Any = get_default_algorithms()[algorithm]
    try:
        key = how.from_jwk(text) if text.lstrip().startswith("{") else how.prepare_key(text)
    except (InvalidKeyError, ValueError, TypeError, AttributeError):
        raise TokenRefused("Cannot load key: Unknown key format") from None
    if hasattr(key, "public_key"):          # somebody has stored the private one
        key = key.public_key()

    def verify(message: bytes, signature: bytes) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return bool(how.verify(message, key, signature))
            except (ValueError, TypeError, AttributeError):     # a key of another kind
                return False
    return verify
