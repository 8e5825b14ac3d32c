"""DIGEST-MD5 (RFC 2831): the old mechanism with realms; quality of protection "auth" only.

The databases hold MD5(user:realm:password).  Limits: DIRECTIVES a message.
"""
from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable

from mailproxy.errors import ProtocolError
from mailproxy.sasl.mechanism import Answer, Challenge, Refusal, Verdict, Wanted, to_bytes, to_text
from mailproxy.secret import Secret

DIRECTIVES = 64
_DIRECTIVE = re.compile(rb'[\s,]*([^\s=,]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*(?=,|\Z)', re.DOTALL)
_FIRST_USE = "00000001"
_RESPONSE = 32


def parse(data: bytes) -> list[tuple[str, str]] | None:
    """name=value, name="value" in a row; None when it is not that."""
    found: list[tuple[str, str]] = []
    position, end = 0, len(data.rstrip(b" \t\r\n,"))
    while position < end:
        match = _DIRECTIVE.match(data, position)
        if match is None or len(found) >= DIRECTIVES:
            return None
        quoted = match[2]
        value = match[3] if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted, flags=re.DOTALL)
        found.append((to_text(match[1]).lower(), to_text(value)))
        position = match.end()
    return found


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _sum(held: bytes, nonce: str, cnonce: str, count: str, qop: str, authzid: str, a2: str) -> str:
    a1 = b":".join((held, to_bytes(nonce), to_bytes(cnonce), *([to_bytes(authzid)] if authzid else [])))
    parts = (_md5(a1).hex(), nonce, count, cnonce, qop, _md5(to_bytes(a2)).hex())
    return _md5(to_bytes(":".join(parts))).hex()


class Server:
    """`realms`: what the client may choose from; `nonce`: never used before."""

    __slots__ = ("_asked", "_given", "_nonce", "_realms", "_response")

    def __init__(self, realms: tuple[str, ...], nonce: str) -> None:
        self._realms = realms
        self._nonce = nonce
        self._asked = False
        self._given: dict[str, str] = {}
        self._response = ""

    def respond(self, data: bytes | None) -> Answer:
        if not self._asked:
            self._asked = True
            realms = "".join(f'realm="{realm}",' for realm in self._realms or ("",))
            return Challenge(to_bytes(f'{realms}nonce="{self._nonce}",qop="auth",charset="utf-8",'
                                      'algorithm="md5-sess"'))
        if not data:
            return Refusal("Client sent no input")
        if b"\0" in data:
            return Refusal("NUL byte in the response")
        problem = self._read(data)
        if problem:
            return Refusal(problem)
        user, realm = self._given["username"], self._given.get("realm", "")
        authzid = self._given.get("authzid", "")
        if "@" in user:
            return Wanted("DIGEST-MD5", user, authzid, realm)
        return Wanted("DIGEST-MD5", f"{user}@{realm}" if realm else user, authzid)

    def _read(self, data: bytes) -> str:
        """Into `_given`; what is wrong with it, "" if nothing."""
        pairs = parse(data)
        if pairs is None:
            return "Invalid input"
        given = self._given
        for name, value in pairs:
            if name in given:
                if name in _ONCE:
                    return f"{_ONCE[name]} must not exist more than once"
                continue
            problem = _CHECKS[name](value) if name in _CHECKS else ""
            if problem:
                return problem
            given[name] = value
        for name in ("nonce", "cnonce", "username"):
            if name not in given:
                return f"Missing {name} parameter"
        if not hmac.compare_digest(to_bytes(given["nonce"]), to_bytes(self._nonce)):
            return "Invalid nonce"
        if "response" not in given:
            return "Invalid response value"
        return ""

    def check(self, held: bytes | None) -> Answer:
        if held is None:
            return Verdict(False)
        given = self._given
        uri = given.get("digest-uri", "")
        sums = [_sum(held, self._nonce, given["cnonce"], given.get("nc", _FIRST_USE), given.get("qop", "auth"),
                     given.get("authzid", ""), a2) for a2 in (f"AUTHENTICATE:{uri}", f":{uri}")]
        if not hmac.compare_digest(to_bytes(sums[0]), to_bytes(given["response"].lower())):
            return Verdict(False)
        return Verdict(True, f"rspauth={sums[1]}".encode())


def _check_count(value: str) -> str:
    if not re.fullmatch("[0-9]+", value):
        return "nonce-count value invalid"
    return "" if int(value[:20]) == 1 else "re-auth not supported currently"


def _check_qop(value: str) -> str:
    if value in ("auth-int", "auth-conf"):
        return "Nonallowed QoP requested"
    return "" if value == "auth" else f"Unknown QoP value: {value[:32]}"


_ONCE = {"username": "username", "cnonce": "cnonce", "nc": "nonce-count", "maxbuf": "maxbuf", "authzid": "authzid"}
_CHECKS: dict[str, Callable[[str], str]] = {
    "username": lambda value: "" if value else "empty username",
    "cnonce": lambda value: "" if value else "cnonce can't contain empty value",
    "nc": _check_count,
    "qop": _check_qop,
    "digest-uri": lambda value: "" if value.count("/") >= 1 else "Invalid digest-uri",
    "maxbuf": lambda value: "" if re.fullmatch("[0-9]{1,9}", value) and int(value) else "Invalid maxbuf value",
    "charset": lambda value: "" if value.lower() == "utf-8" else "Only utf-8 charset is allowed",
    "response": lambda value: "" if len(value) == _RESPONSE else "Invalid response value",
}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Client:
    """`uri`: service/host; `nonce`: ours, never used before."""

    __slots__ = ("_authzid", "_expected", "_nonce", "_password", "_uri", "_user")

    def __init__(self, user: str, password: Secret, authzid: str, uri: str, nonce: str) -> None:
        self._user = user
        self._password = password
        self._authzid = authzid if authzid != user else ""
        self._uri = uri
        self._nonce = nonce
        self._expected = b""

    def initial(self) -> bytes | None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        if self._expected:
            if not hmac.compare_digest(challenge, self._expected):
                raise ProtocolError("Server did not prove that it knows the password")
            return b""
        pairs = parse(challenge)
        given = dict(reversed(pairs or []))                 # of several realms the first
        if not given.get("nonce") or "md5-sess" not in given.get("algorithm", "").lower() \
                or "auth" not in given.get("qop", "auth").replace(" ", "").split(","):
            raise ProtocolError("Server sent an invalid DIGEST-MD5 challenge")
        realm, nonce = given.get("realm", ""), given["nonce"]
        held = _md5(b":".join(map(to_bytes, (self._user, realm, self._password.reveal()))))
        response, expected = (_sum(held, nonce, self._nonce, _FIRST_USE, "auth", self._authzid, a2)
                              for a2 in (f"AUTHENTICATE:{self._uri}", f":{self._uri}"))
        self._expected = f"rspauth={expected}".encode()
        fields = [f"charset=utf-8,username={_quoted(self._user)},realm={_quoted(realm)},nonce={_quoted(nonce)}",
                  f"nc={_FIRST_USE},cnonce={_quoted(self._nonce)},digest-uri={_quoted(self._uri)}",
                  f"response={response},qop=auth"]
        if self._authzid:
            fields.append(f"authzid={_quoted(self._authzid)}")
        return to_bytes(",".join(fields))
