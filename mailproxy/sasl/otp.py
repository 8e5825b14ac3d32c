"""OTP (RFC 2444, 2289): passwords that are good for one login.

The databases hold `algorithm sequence seed hash`; the client answers with what hashes to that, which becomes the new
hash with a sequence one less.  Who cannot have that written does not let the client in.
Limits: one conversation per user at a time; sequences up to MAX_SEQUENCE.
"""
from __future__ import annotations

import hashlib
import hmac
import re
import struct
from weakref import WeakValueDictionary

from mailproxy.errors import ProtocolError
from mailproxy.sasl.md import md4
from mailproxy.sasl.mechanism import Answer, Challenge, Refusal, Verdict, Wanted, to_bytes, to_text
from mailproxy.sasl.otp_words import numbers, words
from mailproxy.secret import Secret

#: A stored sequence begins here when Dovecot makes one; nothing sensible is longer.
FIRST_SEQUENCE = 1024
MAX_SEQUENCE = 9999
#: Used ones that are remembered: for as long as a lookup may be under way.
MAX_SPENT = 10_000
_STORED = re.compile(r"(md4|md5|sha1) ([0-9]{1,9}) ([0-9A-Za-z]{1,16}) ([0-9A-Fa-f]{16})")
_PARAMETERS = re.compile(r"(md4|md5|sha1) ([0-9]{1,9}) ([0-9A-Za-z]{1,16})")
_CHALLENGE = re.compile(rb"otp-(md4|md5|sha1) ([0-9]{1,9}) ([0-9A-Za-z]{1,16})(?: ext.*)?", re.DOTALL)
_HEX = re.compile("[0-9A-Fa-f]{16}")


def _fold(algorithm: str, data: bytes) -> bytes:
    """One step: hash, and fold the sum to 64 bits."""
    if algorithm == "sha1":
        a, b, c, d, e = struct.unpack(">5I", hashlib.sha1(data, usedforsecurity=False).digest())
        return struct.pack("<2I", a ^ c ^ e, b ^ d)
    digest = md4(data) if algorithm == "md4" else hashlib.md5(data, usedforsecurity=False).digest()
    return bytes(one ^ other for one, other in zip(digest[:8], digest[8:], strict=True))


def password(algorithm: str, sequence: int, seed: str, passphrase: bytes) -> bytes:
    """The one-time password of a sequence number."""
    value = _fold(algorithm, seed.lower().encode() + passphrase)
    for _ in range(sequence):
        value = _fold(algorithm, value)
    return value


def parse(stored: str) -> tuple[str, int, str, bytes] | None:
    match = _STORED.fullmatch(stored)
    if match is None or not 0 < int(match[2]) <= MAX_SEQUENCE:
        return None
    return match[1], int(match[2]), match[3], bytes.fromhex(match[4])


def _checksum(value: int) -> int:
    return sum(value >> shift & 3 for shift in range(0, 64, 2)) & 3


def to_words(value: bytes) -> str:
    number = int.from_bytes(value)
    number = number << 2 | _checksum(number)
    table = words()
    return " ".join(table[number >> shift & 2047] for shift in range(55, -1, -11))


def from_words(text: str) -> bytes | None:
    given, table = text.upper().split(), numbers()
    if len(given) != 6 or not all(word in table for word in given):
        return None
    number = 0
    for word in given:
        number = number << 11 | table[word]
    value, checksum = number >> 2, number & 3
    return value.to_bytes(8) if _checksum(value) == checksum else None


def _from_hex(text: str) -> bytes | None:
    text = "".join(text.split())
    return bytes.fromhex(text) if _HEX.fullmatch(text) else None


_FORMS = {"hex": _from_hex, "word": from_words}


class Register:
    """What the databases held is good for one conversation at a time, and for one login."""

    __slots__ = ("_busy", "_spent")

    def __init__(self) -> None:
        self._busy: WeakValueDictionary[str, Server] = WeakValueDictionary()    # given up: gone
        self._spent: dict[str, None] = {}

    def take(self, held: str, server: Server) -> bool:
        return held not in self._spent and self._busy.setdefault(held, server) is server

    def spend(self, held: str) -> None:
        if len(self._spent) >= MAX_SPENT:
            del self._spent[next(iter(self._spent))]
        self._spent[held] = None


class Server:
    __slots__ = ("__weakref__", "_held", "_register", "_state")

    def __init__(self, register: Register) -> None:
        self._register = register
        self._held = ""
        self._state: tuple[str, int, str, bytes] | None = None

    def respond(self, data: bytes | None) -> Answer:
        if data is None:
            return Challenge(b"")
        if self._state is not None:
            return self._response(to_text(data), self._state)
        _authzid, separator, authcid = data.partition(b"\0")
        if not separator or b"\0" in authcid:
            return Refusal("invalid input")
        return Wanted("OTP", to_text(authcid))

    def check(self, held: bytes | None) -> Answer:
        self._held = to_text(held or b"")
        state = parse(self._held)
        if state is None or state[1] <= 1 or not self._register.take(self._held, self):
            return Verdict(False)
        self._state = state
        return Challenge(f"otp-{state[0]} {state[1] - 1} {state[2]} ext".encode())

    def spend(self) -> None:
        """The databases hold the next one now; who has looked before must not use this one."""
        self._register.spend(self._held)

    def _response(self, text: str, state: tuple[str, int, str, bytes]) -> Answer:
        algorithm, sequence, seed, held = state
        kind, colon, rest = text.partition(":")
        begins = kind.lower().startswith("init-")
        form = _FORMS.get(kind.lower().removeprefix("init-"))
        if not colon or form is None:
            return Refusal("unsupported response type")
        now, *fresh = rest.split(":") if begins else [rest]
        given = form(now)
        if given is None:
            return Refusal("invalid response")
        if not hmac.compare_digest(_fold(algorithm, given), held):
            return Verdict(False)
        if not begins:
            return Verdict(True, replacement=f"{{OTP}}{algorithm} {sequence - 1} {seed} {given.hex()}")
        parameters = _PARAMETERS.fullmatch(fresh[0]) if len(fresh) == 2 else None
        value = form(fresh[1]) if parameters is not None else None
        if parameters is None or value is None or not 1 < int(parameters[2]) <= MAX_SEQUENCE:
            return Refusal("invalid new parameters")
        return Verdict(True, replacement=f"{{OTP}}{parameters[1]} {parameters[2]} {parameters[3]} {value.hex()}")


class Client:
    __slots__ = ("_authzid", "_passphrase", "_user")

    def __init__(self, user: str, passphrase: Secret, authzid: str = "") -> None:
        self._user = user
        self._passphrase = passphrase
        self._authzid = authzid

    def initial(self) -> bytes | None:
        return to_bytes(f"{self._authzid}\0{self._user}")

    def respond(self, challenge: bytes) -> bytes:
        if not challenge:
            return to_bytes(f"{self._authzid}\0{self._user}")
        match = _CHALLENGE.fullmatch(challenge)
        if match is None or not 0 < int(match[2]) <= MAX_SEQUENCE:
            raise ProtocolError("Server sent an invalid OTP challenge")
        value = password(match[1].decode(), int(match[2]), match[3].decode(), to_bytes(self._passphrase.reveal()))
        return b"hex:" + value.hex().encode()
