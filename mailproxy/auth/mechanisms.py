"""The server halves of SASL mechanisms as the auth process uses them: with its challenges, nonces, realms and keys.

`make(request)` gives the half for a request's mechanism.  Nothing of a conversation is kept here.
"""
from __future__ import annotations

import base64
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path

from mailproxy.auth.request import Request
from mailproxy.sasl import anonymous, bearer, cram_md5, digest_md5, external, login, otp, plain, scram
from mailproxy.sasl.mechanism import ServerMechanism

PLAIN = plain.Server()
_ANONYMOUS = anonymous.Server()
_XOAUTH2 = bearer.XOAuth2Server()
_OAUTHBEARER = bearer.OAuthBearerServer()
_MACHINE_ID = Path("/etc/machine-id")
_NONCE = 64
_one_time = otp.Register()


def _decoy_key() -> bytes:
    """The same after a restart, or else the salts that change with it would be those of nobody."""
    try:
        return b"scram" + _MACHINE_ID.read_bytes()
    except OSError:
        return secrets.token_bytes(32)


DECOY_KEY = _decoy_key()


def _cram_md5(request: Request) -> cram_md5.Server:
    digits = f"{secrets.randbelow(10 ** 16):016d}"
    return cram_md5.Server(f"<{digits}.{int(time.time())}@{socket.gethostname()}>".encode())


def _digest_md5(request: Request) -> digest_md5.Server:
    return digest_md5.Server(request.plan.settings.auth_realms, base64.b64encode(secrets.token_bytes(16)).decode())


def _scram(request: Request) -> scram.Server:
    return scram.Server(request.mech, base64.b64encode(secrets.token_bytes(_NONCE * 3 // 4)), DECOY_KEY)


def _external(request: Request) -> external.Server:
    from_certificate = request.plan.settings.auth_ssl_username_from_cert
    return external.Server(request.args.get("cert_username", "") if from_certificate else "")


_MAKERS: dict[str, Callable[[Request], ServerMechanism]] = {
    "PLAIN": lambda request: PLAIN,
    "LOGIN": lambda request: login.Server(),
    "ANONYMOUS": lambda request: _ANONYMOUS,
    "APOP": lambda request: request.owner.apop(),
    "EXTERNAL": _external,
    "CRAM-MD5": _cram_md5,
    "DIGEST-MD5": _digest_md5,
    "SCRAM-SHA-1": _scram,
    "SCRAM-SHA-256": _scram,
    "XOAUTH2": lambda request: _XOAUTH2,
    "OAUTHBEARER": lambda request: _OAUTHBEARER,
    "OTP": lambda request: otp.Server(_one_time),
}


def make(request: Request) -> ServerMechanism:
    return _MAKERS[request.mech](request)
