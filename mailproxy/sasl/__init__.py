"""SASL mechanisms, one a file, the server half and the client half side by side.  Sans-IO.

`FLAGS`: name -> the flag words of the auth handshake, for the mechanisms with a server half.
`client(name, …)`: the client half by name, None when there is none.
"""
from __future__ import annotations

import secrets

from mailproxy.sasl import anonymous, bearer, cram_md5, digest_md5, external, login, otp, plain, scram
from mailproxy.sasl.mechanism import ClientMechanism
from mailproxy.secret import Secret

FLAGS: dict[str, tuple[str, ...]] = {
    "PLAIN": ("plaintext",),
    "LOGIN": ("plaintext",),
    "CRAM-MD5": ("dictionary", "active"),
    "DIGEST-MD5": ("dictionary", "active", "mutual-auth"),
    "SCRAM-SHA-1": ("mutual-auth",),
    "SCRAM-SHA-256": ("mutual-auth",),
    "APOP": ("private", "dictionary", "active"),
    "ANONYMOUS": ("anonymous",),
    "EXTERNAL": (),
    "XOAUTH2": ("plaintext",),
    "OAUTHBEARER": ("plaintext",),
    "OTP": ("dictionary", "active"),
}
#: Mechanisms that exist elsewhere but have no server half here: configuring one gets a different message than a typo.
NOT_BUILT = ("GSSAPI", "GSS-SPNEGO", "NTLM", "DOVECOT-TOKEN")

CLIENT_NAMES = ("EXTERNAL", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1",
                "SCRAM-SHA-256", "OTP", "ANONYMOUS")
_NONCE = 18


def client(name: str, user: str, password: Secret, authzid: str = "", host: str = "", port: int = 0,
           service: str = "imap") -> ClientMechanism | None:
    """A new client half for one login; names in any case."""
    match name.upper():
        case "PLAIN":
            return plain.Client(user, password, authzid)
        case "LOGIN":
            return login.Client(user, password, authzid)
        case "EXTERNAL":
            return external.Client(user, password, authzid)
        case "ANONYMOUS":
            return anonymous.Client(user, password, authzid)
        case "XOAUTH2":
            return bearer.XOAuth2Client(user, password, authzid)
        case "OAUTHBEARER":
            return bearer.OAuthBearerClient(user, password, authzid, host, port)
        case "CRAM-MD5":
            return cram_md5.Client(user, password, authzid)
        case "DIGEST-MD5":
            return digest_md5.Client(user, password, authzid, f"{service}/{host or 'localhost'}",
                                     secrets.token_urlsafe(_NONCE))
        case "OTP":
            return otp.Client(user, password, authzid)
        case "SCRAM-SHA-1" | "SCRAM-SHA-256":
            return scram.Client(name.upper(), user, password, authzid, secrets.token_urlsafe(_NONCE))
    return None
