"""SASL mechanisms, one a file, the server half and the client half side by side.  Sans-IO.

`FLAGS`: name -> the flag words of the auth handshake, for the mechanisms with a server half.
`client(name, …)`: the client half by name, None when there is none.
"""
from __future__ import annotations

from mailproxy.sasl import bearer, external, login, plain
from mailproxy.sasl.mechanism import ClientMechanism
from mailproxy.secret import Secret

FLAGS: dict[str, tuple[str, ...]] = {
    "PLAIN": ("plaintext",),
    "LOGIN": ("plaintext",),
    "ANONYMOUS": ("anonymous",),
    "EXTERNAL": (),
    "APOP": ("private", "dictionary", "active"),
}
#: Mechanisms that exist elsewhere but have no server half here: configuring one gets a different message than a typo.
NOT_BUILT = ("CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER", "OTP",
             "GSSAPI", "GSS-SPNEGO", "NTLM", "DOVECOT-TOKEN")

CLIENT_NAMES = ("EXTERNAL", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2")


def client(name: str, user: str, password: Secret, authzid: str = "", host: str = "", port: int = 0
           ) -> ClientMechanism | None:
    """A new client half for one login; names in any case."""
    match name.upper():
        case "PLAIN":
            return plain.Client(user, password, authzid)
        case "LOGIN":
            return login.Client(user, password, authzid)
        case "EXTERNAL":
            return external.Client(user, password, authzid)
        case "XOAUTH2":
            return bearer.XOAuth2Client(user, password, authzid)
        case "OAUTHBEARER":
            return bearer.OAuthBearerClient(user, password, authzid, host, port)
    return None
