"""OK and FAIL lines of the client protocol.

Order: user, fields as first inserted, original_user, auth_user, anonymous, and on login sockets pass and master for a
proxied login.  A field that is empty is written as its bare name.
"""
from __future__ import annotations

from mailproxy.auth import outcome
from mailproxy.auth.request import HIDDEN, Request
from mailproxy.ipc.authwire import escape

#: Meaningless in a refusal.
_PROXY_FIELDS = frozenset(("nologin", "proxy", "proxy_maybe", "proxy_always", "host", "port", "destuser"))
#: Their presence is all that counts, and login processes compare the whole word.
_BARE = frozenset(("proxy", "nologin"))
_CODES = {outcome.DISABLED: "\tcode=user_disabled", outcome.EXPIRED: "\tcode=pass_expired"}


def ok(request: Request, login: bool, response: str | None = None) -> str:
    """`login`: add what a proxying login process needs.  `response`: final SASL data, base64."""
    user = request.user or ""
    parts = [f"OK\t{request.id}\tuser={escape(user)}"]
    fields = request.fields
    if not login and "token" in fields:             # it opens other doors: only a proxy has a use for it
        fields = {key: value for key, value in fields.items() if key != "token"}
    for key, value in fields.items():
        if value and key not in _BARE:
            parts.append(f"{key}={value if value.isprintable() else escape(value)}")
        else:
            parts.append(key)
    if request.original_user != user or request.master_user or user == _anonymous(request):
        parts.append(_identity(request, user))
    if response is not None:
        parts.append(f"resp={response}")
    if login and "proxy" in fields:
        if "pass" not in fields and request.held is None:       # else the client has not told its password
            parts.append(f"pass={escape(request.password)}")
        if request.master_user and "master" not in fields:
            parts.append(f"master={escape(request.master_user)}")
    return "\t".join(parts)


def _anonymous(request: Request) -> str:
    name: str = request.plan.settings.auth_anonymous_username
    return name


def _identity(request: Request, user: str | None) -> str:
    words = []
    if request.original_user is not None and request.original_user != user:
        words.append(f"original_user={escape(request.original_user)}")
    if request.master_user:
        words.append(f"auth_user={escape(request.master_user)}")
    if user and user == _anonymous(request):
        words.append("anonymous")
    return "\t".join(words)


def fail(request: Request) -> str:
    parts = [f"FAIL\t{request.id}"]
    user = request.user
    shown = request.original_user if user is None else user
    if shown is not None:
        parts.append(f"\tuser={escape(shown)}")
    fields = request.fields
    if "nodelay" in fields:
        parts.append("\tnodelay")
    if request.result in (outcome.INTERNAL, outcome.NEXT):
        parts.append("\tcode=temp_fail")
    elif request.master_user:
        parts.append("\tcode=authz_fail")
    else:
        parts.append(_CODES.get(request.result, ""))
    for key, value in fields.items():
        if key not in _PROXY_FIELDS and key not in HIDDEN:
            parts.append(f"\t{key}={escape(value)}" if value else f"\t{key}")
    identity = _identity(request, user)
    if identity:
        parts.append("\t" + identity)
    return "".join(parts)
