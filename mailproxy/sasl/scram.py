"""SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802, 7677), without channel binding.

The server half holds what the databases hold: `iterations,salt,StoredKey,ServerKey`.  For a user who does not exist it
goes on with a salt that is always the same for that name, so that nobody learns who exists.
Limits: a server may ask a client half for MAX_ITERATIONS, which is what a login process can afford.
"""
from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from mailproxy.errors import ProtocolError
from mailproxy.sasl.mechanism import (
    Answer,
    Challenge,
    Refusal,
    Verdict,
    Wanted,
    escape_name,
    to_bytes,
    to_text,
    unescape_name,
)
from mailproxy.secret import Secret

#: What a server asks of its clients, and the least that is taken.
ITERATIONS = 4096
#: About 40 ms of computing.
MAX_ITERATIONS = 100_000
_SALT = 16
HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}


def decoy_salt(key: bytes, user: str) -> bytes:
    """The salt of a name: nobody without the key can tell it from a random one."""
    return hmac.digest(key, to_bytes(user), "sha256")[:_SALT]


def derive(name: str, password: bytes, salt: bytes, iterations: int) -> tuple[bytes, bytes, bytes]:
    """ClientKey, StoredKey, ServerKey; `name` is that of the hash."""
    salted = hashlib.pbkdf2_hmac(name, password, salt, iterations)
    client = hmac.digest(salted, b"Client Key", name)
    return client, hashlib.new(name, client).digest(), hmac.digest(salted, b"Server Key", name)


def stored(name: str, password: bytes, salt: bytes, iterations: int = ITERATIONS) -> bytes:
    _, key, server = derive(name, password, salt, iterations)
    return b",".join((b"%d" % iterations, *map(base64.b64encode, (salt, key, server))))


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


class Server:
    """`nonce`: our part, printable and without a comma.  `key`: for the salts of users who do not exist."""

    __slots__ = ("_first", "_gs2", "_hash", "_held", "_key", "_mech", "_nonce", "_user")

    def __init__(self, mech: str, nonce: bytes, key: bytes) -> None:
        self._mech = mech
        self._hash = HASHES[mech]
        self._nonce = nonce
        self._key = key
        self._gs2 = b""
        self._first = b""                       # both first messages, as they are signed
        self._user = ""
        self._held: tuple[bytes, bytes] | None = None

    def respond(self, data: bytes | None) -> Answer:
        if data is None:
            return Challenge(b"")
        if b"\0" in data:
            return Refusal("NUL byte in the message")
        return self._final(data) if self._gs2 else self._begin(data)

    def _begin(self, data: bytes) -> Answer:
        """gs2-cbind-flag "," [authzid] "," username "," nonce ["," extensions]"""
        fields = data.split(b",")
        if len(fields) < 2:
            return Refusal("Invalid initial client message: Missing first ',' in GS2 header")
        if len(fields) < 3:
            return Refusal("Invalid initial client message: Missing second ',' in GS2 header")
        binding, authzid_field, username, *rest = fields
        if binding.startswith(b"p"):
            return Refusal("Channel binding not supported")
        if binding not in (b"n", b"y"):
            return Refusal("Invalid GS2 header")
        user = unescape_name(to_text(username[2:])) if username.startswith(b"n=") else ""
        authzid = ""
        if authzid_field:
            authzid = (unescape_name(to_text(authzid_field[2:])) or "") if authzid_field.startswith(b"a=") else ""
            if not authzid:
                return Refusal("Invalid authzid field", user if authzid_field == b"a=" else None)
        if username.startswith(b"m="):
            return Refusal("Mandatory extension(s) not supported")
        if not username.startswith(b"n="):
            return Refusal("Invalid username field")
        if user is None:
            return Refusal("Username escaping is invalid")
        if not rest:
            return Refusal("Invalid initial client message: Missing nonce field")
        if not rest[0].startswith(b"r=") or len(rest[0]) == 2:
            return Refusal("Invalid client nonce", user)
        self._gs2 = b",".join((binding, authzid_field, b""))
        self._first = data[len(self._gs2):]
        self._nonce = rest[0][2:] + self._nonce
        self._user = user
        return Wanted(self._mech, user, authzid)

    def check(self, held: bytes | None) -> Answer:
        """Without a user the client hears a salt all the same."""
        fields = held.split(b",") if held is not None else []
        try:
            iterations, salt, key, server = fields[0], fields[1], *map(binascii.a2b_base64, fields[2:4])
            self._held = (key, server)
        except (IndexError, ValueError):
            iterations = b"%d" % ITERATIONS
            salt = base64.b64encode(decoy_salt(self._key, self._user))
            self._held = None
        message = b"r=%s,s=%s,i=%s" % (self._nonce, salt, iterations)
        self._first += b"," + message
        return Challenge(message)

    def _final(self, data: bytes) -> Answer:
        """channel-binding "," nonce ["," extensions] "," proof"""
        unproved, _, proof_field = data.rpartition(b",")
        fields = unproved.split(b",")
        if len(fields) < 2 or not proof_field.startswith(b"p="):
            return Refusal("Invalid final client message")
        if fields[0] != b"c=" + base64.b64encode(self._gs2):
            return Refusal("Invalid channel binding data")
        if not hmac.compare_digest(fields[1], b"r=" + self._nonce):
            return Refusal("Wrong nonce")
        try:
            proof = binascii.a2b_base64(proof_field[2:], strict_mode=True)
        except ValueError:
            return Refusal("Invalid base64 encoding")
        if len(proof) != hashlib.new(self._hash).digest_size:
            return Refusal("Invalid ClientProof length")
        if self._held is None:
            return Verdict(False)
        key, server = self._held
        message = self._first + b"," + unproved
        client = _xor(proof, hmac.digest(key, message, self._hash))
        if not hmac.compare_digest(hashlib.new(self._hash, client).digest(), key):
            return Verdict(False)
        return Verdict(True, b"v=" + base64.b64encode(hmac.digest(server, message, self._hash)))


class Client:
    """`nonce`: printable, without a comma, never used before."""

    __slots__ = ("_bare", "_gs2", "_hash", "_nonce", "_password", "_signature")

    def __init__(self, mech: str, user: str, password: Secret, authzid: str, nonce: str) -> None:
        self._hash = HASHES[mech]
        self._password = password
        self._nonce = nonce
        self._gs2 = "n," + (f"a={escape_name(authzid)}" if authzid and authzid != user else "") + ","
        self._bare = f"n={escape_name(user)},r={nonce}"
        self._signature = b""

    def initial(self) -> bytes | None:
        return to_bytes(self._gs2 + self._bare)

    def respond(self, challenge: bytes) -> bytes:
        if self._signature:
            return self._finish(challenge)
        if not challenge:                       # the server does without initial responses
            return to_bytes(self._gs2 + self._bare)
        fields = challenge.split(b",")
        if len(fields) < 3 or not fields[0].startswith(b"r=" + self._nonce.encode()) \
                or not fields[1].startswith(b"s=") or not fields[2].startswith(b"i="):
            raise ProtocolError(f"Server sent an invalid {self._hash} SCRAM challenge")
        if fields[0] == b"r=" + self._nonce.encode():
            raise ProtocolError("Server has no nonce of its own")
        try:
            salt = binascii.a2b_base64(fields[1][2:], strict_mode=True)
            iterations = int(fields[2][2:].decode("ascii"))
        except ValueError:
            raise ProtocolError("Server sent an invalid SCRAM challenge") from None
        if not ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise ProtocolError(f"Server wants {iterations} iterations of SCRAM")
        client, key, server = derive(self._hash, to_bytes(self._password.reveal()), salt, iterations)
        final = b"c=%s,%s" % (base64.b64encode(to_bytes(self._gs2)), fields[0])
        message = b",".join((to_bytes(self._bare), challenge, final))
        self._signature = b"v=" + base64.b64encode(hmac.digest(server, message, self._hash))
        return b"%s,p=%s" % (final, base64.b64encode(_xor(client, hmac.digest(key, message, self._hash))))

    def _finish(self, challenge: bytes) -> bytes:
        """The server proves that it knew the password, too."""
        if not hmac.compare_digest(challenge, self._signature):
            raise ProtocolError("Server did not prove that it knows the password")
        return b""
