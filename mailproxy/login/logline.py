"""The words of login log lines: `login_log_format` and its elements, and why a client that did not log in is gone.

In: the two settings, once; then sessions.  Out: texts.  A word of the elements is dropped when all of its variables
are empty, but for words with the user name or a passdb field.  It must not know how a log is written.
"""
from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailproxy import variables

if TYPE_CHECKING:
    from mailproxy.login.session import Session

Getter = Callable[["Session"], str]
#: Bytes of a user name that a log line shows.
USER_MAX = 80
#: Stands where a log line has room for the reason why a client's TLS ended.  No text from outside can hold it.
TLS_END = "\ud800"

#: name and its aliases -> what it means for a session
_GETTERS: dict[str, Getter] = {
    "user": lambda s: s.user if len(s.user) <= USER_MAX and s.user.isascii() and s.user.isprintable()
    else _shown(s.user),
    "username": lambda s: s.user.partition("@")[0],
    "domain": lambda s: s.user.partition("@")[2],
    "service": lambda s: _service(s),  # noqa: PLW0108 - defined below
    "remote_ip": lambda s: s.rip,
    "local_ip": lambda s: s.lip,
    "remote_port": lambda s: str(s.rport) if s.rport else "",
    "local_port": lambda s: str(s.lport) if s.lport else "",
    "mech": lambda s: s.method,
    "secured": lambda s: s.security(),
    "cert": lambda s: s.io.cipher(),
    "mail_pid": lambda s: str(s.handoff.pid) if s.handoff is not None and s.handoff.pid else "",
    "pid": lambda s: str(os.getpid()),
    "session": lambda s: s.session_id(),
    "listener": lambda s: s.listener,
    "local_name": lambda s: s.local_name,
    "auth_user": lambda s: s.auth_user or s.user,
    "orig_user": lambda s: s.orig_user or s.user,
    "real_rip": lambda s: s.real_rip,
    "real_lip": lambda s: s.real_lip,
    "real_rport": lambda s: str(s.real_rport),
    "real_lport": lambda s: str(s.real_lport),
}
_NAMES: dict[str, str] = {
    **{name: name for name in _GETTERS},
    "u": "user", "n": "username", "d": "domain", "s": "service", "r": "remote_ip", "l": "local_ip", "b": "remote_port",
    "a": "local_port", "m": "mech", "mechanism": "mech", "c": "secured", "k": "cert", "e": "mail_pid", "p": "pid",
    "rip": "remote_ip", "lip": "local_ip", "rport": "remote_port", "lport": "local_port",
    "real_remote_ip": "real_rip", "real_local_ip": "real_lip", "real_remote_port": "real_rport",
    "real_local_port": "real_lport",
    "original_user": "orig_user",
}
_USER_NAMES = ("user", "username")
#: A word with one variable and nothing else that needs expanding: nearly all are.
_SIMPLE = re.compile(r"([^%]*)%(?:([a-z])|\{([a-z_]+)\})([^%]*)\Z")


class _Values:
    """A session as templates ask for its values."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getitem__(self, name: str) -> str:
        if name.startswith("passdb:"):
            field = name[7:].partition(":")[0]
            # the default behind the field counts in auth only
            return self._session.fields.get(field, "")
        return _GETTERS[name](self._session)


class Format:
    """Compiled settings.  `elements(session)` joins the words; `line(text, elements)` makes the line."""

    __slots__ = ("_line", "_words")

    def __init__(self, log_format: str, elements: str) -> None:
        self._words = [_word(text) for text in elements.split(" ") if text]
        self._line = None if log_format == "%$: %s" else variables.compile(
            log_format.replace("%$", "%{message}"), {"message": "message", "s": "elements"})

    def elements(self, session: Session) -> str:
        return ", ".join([text for word in self._words if (text := word(session))])

    def line(self, text: str, elements: str) -> str:
        if self._line is None:
            return f"{text}: {elements}"
        return self._line.expand({"message": text, "elements": elements})


def _shown(user: str) -> str:
    """Not more than USER_MAX bytes of a name; what is not text becomes `?`."""
    raw = user.encode("utf-8", "surrogateescape")
    if len(raw) > USER_MAX:
        text = raw[:USER_MAX - 3].decode("utf-8", "ignore") + "..."
    else:
        text = raw.decode("utf-8", "replace").replace("\ufffd", "?")
    return "".join("?" if char < " " or char == "\x7f" else char for char in text)


def _service(session: Session) -> str:
    return str(session.shared.protocol)


def _word(text: str) -> Getter:
    match = _SIMPLE.match(text)
    name = _NAMES.get(match[2] or match[3]) if match else None
    if match is None or name is None:
        return _complex(text)
    get, before, after = _GETTERS[name], match[1], match[4]
    if name in _USER_NAMES:
        return lambda session: f"{before}{get(session)}{after}"

    def simple(session: Session) -> str:
        value = get(session)
        return f"{before}{value}{after}" if value else ""
    return simple


def _complex(text: str) -> Getter:
    template = variables.compile(text, _NAMES, functions={"passdb": _passdb})
    keeps = any(name in _USER_NAMES or name.startswith("passdb:") for name in template.inputs)

    def expand(session: Session) -> str:
        values = _Values(session)
        try:
            whole = template.expand(values)
            if keeps or not template.inputs or any(get(values) for get in template.inputs.values()):
                return whole
        except variables.ExpandError as error:
            session.shared.log.error(f"Failed to expand log_format_elements={text}: {error}")
        return ""
    return expand


def _passdb(rest: str) -> Callable[[variables.Values], str]:
    return lambda values: values["passdb:" + rest]


def why_gone(session: Session, now: float) -> str:
    """The parenthesis of a `Disconnected` line."""
    s = session
    required = s.shared.policy.require_cert
    tls = s.tls or s.outer_tls
    if required and tls and s.cert_name is None:
        return "(client didn't send a cert)"    # one that is not valid ends the handshake, and never gets here
    if s.awaiting_auth():
        return f"(disconnected before auth was ready, waited {int(now - s.created)} secs)"
    if not s.attempts:
        return f"(no auth attempts in {int(now - s.created)} secs)"
    if required and not tls:
        return "(cert required, client didn't start TLS)"
    waited = int(now - s.auth_started)
    if s.attempts == 1:
        text = s.unfinished()
        if text:
            return f"({text}, waited {waited} secs)"
        if s.outcome == ABORTED:
            return "(aborted authentication)"
    if s.outcome in _FIXED and s.outcome in _FIRST:
        return _FIXED[s.outcome]
    if s.successes:
        return f"(internal failure, {s.successes} successful auths)"
    if s.outcome in _FIXED:
        return _FIXED[s.outcome]
    word = "authorization" if s.outcome == AUTHZ_FAILED else "auth"
    return f"({word} failed, {s.attempts} attempts in {waited} secs)"


# How the last authentication attempt of a session ended.
NOTHING, FAILED, AUTHZ_FAILED, TEMP_FAILED, DISABLED, EXPIRED, BAD_BASE64, LOGIN_DISABLED, BAD_MECHANISM, INSECURE, \
    ABORTED, LOST_AUTH, BACKEND_REFUSED = range(13)
_FIRST = (LOST_AUTH, BACKEND_REFUSED)
_FIXED = {
    LOST_AUTH: "(auth process communication failure)",
    BACKEND_REFUSED: "(proxy dest auth failed)",
    TEMP_FAILED: "(auth service reported temporary failure)",
    DISABLED: "(user disabled)",
    EXPIRED: "(password expired)",
    BAD_BASE64: "(sent invalid base64 in response)",
    LOGIN_DISABLED: "(login disabled)",
    BAD_MECHANISM: "(tried to use unsupported auth mechanism)",
    INSECURE: "(tried to use disallowed plaintext auth)",
}
