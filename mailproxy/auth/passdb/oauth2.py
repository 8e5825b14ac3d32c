"""oauth2: the password is a token, which a server or a key of our own vouches for; or a password that buys one.

The file named by `args` says where: grant_url, tokeninfo_url, introspection_url, or local_validation_key_dict.  What
is known of the token afterwards is checked (active, user name, scope, audience) and given on by pass_attrs.
Blocking: for auth-workers, which keep their connections open.  (Long: the settings and their rules are one thing.)
"""
from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from mailproxy.auth import outcome
from mailproxy.auth.dicts.store import Store, StoreFailed
from mailproxy.auth.dicts.table import make
from mailproxy.auth.httpclient import Client, HttpFailure, Reply, Tls, check_url
from mailproxy.auth.jsonobject import NotAnObject, as_text, as_words, parse
from mailproxy.auth.jsonwebtoken import TokenRefused, Validator
from mailproxy.auth.jsonwebtoken import check as check_library
from mailproxy.auth.passdb import settings_file
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, Pairs, failure, without_password
from mailproxy.auth.variables import template
from mailproxy.variables import ExpandError, Values

#: Seconds for everything that one login asks: without timeout_msecs, and at most.
TIMEOUT, MAX_TIMEOUT = 30.0, 50.0
_UNSET = "\0"
_SETTINGS = {
    "tokeninfo_url": "", "grant_url": "", "introspection_url": "", "introspection_mode": "",
    "force_introspection": "no", "scope": "", "audience": "", "username_format": "%Lu", "username_attribute": "email",
    "active_attribute": _UNSET, "active_value": _UNSET, "client_id": "", "client_secret": "", "issuers": "",
    "pass_attrs": "", "local_validation_key_dict": "", "openid_configuration_url": "", "timeout_msecs": "0",
    "send_auth_headers": "no", "use_grant_password": "no", "max_idle_time_msecs": "60000", "tls_ca_cert_file": "",
    "tls_ca_cert_dir": "", "tls_cert_file": "", "tls_key_file": "", "tls_cipher_suite": "",
    "tls_allow_invalid_cert": "no",
    # of no use here: a worker has one connection, asks one thing at a time, and writes no raw logs
    "max_parallel_connections": "", "max_pipelined_requests": "", "rawlog_dir": "", "debug": "",
}
_MODES = ("auth", "get", "post", "local")
#: RFC 6750: what a token in a header may consist of.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_GRANT, _TOKENINFO, _INTROSPECTION, _LOCAL = (
    "Password grant failed", "Token validation failed", "Introspection failed", "Local validation failed")
_FORM = "application/x-www-form-urlencoded"


class _Refused(Exception):
    """The end of a login; `result` is its outcome."""

    def __init__(self, result: int, text: str) -> None:
        super().__init__(text)
        self.result = result


def _escape(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="@.-_~")


class OAuth2:
    """`mode`: how a token is examined.  `openid_configuration_url`: what a refused client is told."""

    __slots__ = ("_active", "_audience", "_client", "_clock", "_flags", "_format", "_grant", "_greedy",
                 "_must_be_active", "_pass_attrs", "_settings", "_store", "_timeout", "_tls", "_validator", "mode",
                 "needs", "openid_configuration_url", "variables")

    default_scheme = "PLAIN"
    blocking = True

    def __init__(self, args: str, clock: Callable[[], float] = time.monotonic) -> None:
        if not args.strip():
            raise ArgsInvalid("oauth2: Configuration file path not given")
        self._settings = settings = settings_file.load(args.strip(), _SETTINGS)
        self._clock = clock
        self._flags = frozenset(name for name in ("force_introspection", "send_auth_headers", "use_grant_password",
                                                  "tls_allow_invalid_cert") if settings_file.yes(settings, name))
        self._grant = "use_grant_password" in self._flags and bool(settings["grant_url"])
        self.mode = settings["introspection_mode"] or "auth"
        self.openid_configuration_url = settings["openid_configuration_url"]
        self._timeout = min(settings_file.number(settings, "timeout_msecs") / 1000 or TIMEOUT, MAX_TIMEOUT)
        self._active_settings()
        self._check_settings()
        self._tls = Tls(settings["tls_ca_cert_file"], settings["tls_ca_cert_dir"], settings["tls_cert_file"],
                        settings["tls_key_file"], settings["tls_cipher_suite"], "tls_allow_invalid_cert" in self._flags)
        self._client = Client("mailproxy-oauth2", self._tls.context() if self._https else None,
                              settings_file.number(settings, "max_idle_time_msecs") / 1000)
        self._audience = frozenset(settings["audience"].split())
        self._pass_attrs = [(key, template(value, tables=("oauth2",), names=("$",))) for key, _, value in
                            (word.partition("=") for word in settings["pass_attrs"].split())]
        self._format = template(settings["username_format"])
        # what is to be given on may be known to introspection only
        self._greedy = "force_introspection" in self._flags or any(
            name.startswith("oauth2:") for _, each in self._pass_attrs for name in each.key_variables)
        self._store: Store | None = None
        self._validator = self._local_validator() if self.mode == "local" else None
        self._variables()

    # -- settings -------------------------------------------------------------------------------------------------

    @property
    def _https(self) -> bool:
        return any(self._settings[name].startswith("https:")
                   for name in ("tokeninfo_url", "grant_url", "introspection_url"))

    def _active_settings(self) -> None:
        """A token without the attribute is active, unless the administrator has named one."""
        name, value = self._settings["active_attribute"], self._settings["active_value"]
        self._must_be_active = name not in (_UNSET, "")
        self._active = ("active" if name == _UNSET else name, "true" if value == _UNSET else value)
        if self._active[0] and not self._active[1]:
            raise ArgsInvalid("oauth2: Cannot have empty active_value if active_attribute is set")
        if self._active[1] and not self._active[0]:
            raise ArgsInvalid("oauth2: Cannot have empty active_attribute is active_value is set")

    def _check_settings(self) -> None:
        settings = self._settings
        if not (settings["tokeninfo_url"] or settings["introspection_url"] or settings["local_validation_key_dict"]
                or (settings["grant_url"] and settings["client_id"] and settings["client_secret"])):
            raise ArgsInvalid("oauth2: Password grant, tokeninfo, introspection URL or validation key dictionary must "
                              "be given")
        if self.mode not in _MODES:
            raise ArgsInvalid(f"oauth2: Invalid value '{self.mode}' for introspection mode, must be on auth, get, post "
                              "or local")
        if self.mode == "local" and not settings["local_validation_key_dict"]:
            raise ArgsInvalid("oauth2: local_validation_key_dict is required for local introspection.")
        for name in ("tokeninfo_url", "grant_url", "introspection_url"):
            if settings[name]:
                try:
                    check_url(settings[name])
                except ArgsInvalid as error:
                    raise ArgsInvalid(f"oauth2: {name}: {error}") from None

    def _local_validator(self) -> Validator:
        check_library()
        self._store = store = make(self._settings["local_validation_key_dict"])
        return Validator(store.get, self._settings["issuers"].split(), self._settings["scope"])

    def _variables(self) -> None:
        """A token is part of the key, so that a new one is examined; a password is compared with the cached one."""
        used = dict.fromkeys(("user",) if self._grant else ("user", "password"))
        for each in (self._format, *(each for _, each in self._pass_attrs)):
            used.update(dict.fromkeys(name for name in each.key_variables
                                      if name != "$" and not name.startswith("oauth2:")))
        headers = ("service", "lip", "lport", "rip", "rport") if "send_auth_headers" in self._flags else ()
        self.variables: tuple[str, ...] | None = tuple(used)
        self.needs = tuple(dict.fromkeys((*used, *headers)))

    # -- the driver -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connects on first use."""

    def close(self) -> None:
        self._client.close()
        if self._store is not None:
            self._store.close()

    def lookup(self, values: Values) -> Answer:
        return without_password()

    def verify(self, values: Values, password: str) -> Answer:
        try:
            token, claims, step = self._learn(values, password, self._clock() + self._timeout)
            self._judge(values, claims, step)
            fields = self._fields(values, claims, local=step == _LOCAL)
        except _Refused as refusal:
            text = f"oauth2 failed: {refusal}"
            return failure(text) if refusal.result == outcome.INTERNAL else Answer(refusal.result, note=text)
        except (HttpFailure, StoreFailed) as error:
            return failure(f"oauth2 failed: {error}")
        except ExpandError as error:
            return failure(f"Failed to expand pass_attrs or username_format: {error}")
        return Answer(outcome.OK, fields=[*fields, ("token", token)])

    def _learn(self, values: Values, password: str, deadline: float) -> tuple[str, dict[str, Any], str]:
        """The token, what is said of it, and by whom."""
        token, step = password, ""
        claims: dict[str, Any] = {}
        if self._grant:
            token, claims = self._buy(values, password, deadline)
            step = _GRANT
        elif self._validator is None and self._settings["tokeninfo_url"]:
            url = self._settings["tokeninfo_url"] + _escape(token)
            claims = self._look(_TOKENINFO, values, "GET", url, None, token, deadline)
            step = _TOKENINFO
            self._judge_active(claims, step)
        if self._validator is not None:
            try:
                claims.update(self._validator.claims(token))
            except TokenRefused as refusal:
                raise _Refused(outcome.MISMATCH, f"{_LOCAL}: {refusal}") from None
            return token, claims, _LOCAL
        enough = self._settings["username_attribute"] in claims and (
            not self._active[0] or self._active[0] in claims) and not self._greedy
        if self._settings["introspection_url"] and (step in ("", _GRANT) or not enough):
            claims.update(self._introspect(values, token, deadline))
            step = _INTROSPECTION
        return token, claims, step

    # -- asking ---------------------------------------------------------------------------------------------------

    def _ask(self, step: str, values: Values, method: str, url: str, body: str | None, token: str | None,
             deadline: float) -> Reply:
        headers: dict[str, str] = {}
        if token is not None:
            if not _TOKEN.fullmatch(token):
                raise _Refused(outcome.MISMATCH, f"{step}: Invalid token")
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = _FORM
        if "send_auth_headers" in self._flags:
            headers.update(_auth_headers(values))
        try:
            reply = self._client.request(method, url, headers, body, deadline)
        except HttpFailure as error:
            raise _Refused(outcome.INTERNAL, f"{step}: {error}") from None
        if not (200 <= reply.status < 300 or 400 <= reply.status < 500):
            raise _Refused(outcome.INTERNAL, f"{step}: {reply.status} {reply.reason}")
        return reply

    def _parsed(self, step: str, reply: Reply) -> dict[str, Any]:
        try:
            claims = parse(reply.body)
        except NotAnObject as error:
            text = str(error) if 200 <= reply.status < 300 else f"{reply.status} {reply.reason}"
            raise _Refused(outcome.INTERNAL, f"{step}: {text}") from None
        kind = as_text(claims.get("token_type"))
        if kind and kind.lower() != "bearer":
            raise _Refused(outcome.INTERNAL, f"{step}: Expected Bearer token, got '{kind}'")
        return claims

    def _look(self, step: str, values: Values, method: str, url: str, body: str | None, token: str,
              deadline: float) -> dict[str, Any]:
        """What a server says of the token.  With the token as our only credential, a refusal means the token; with
        credentials of our own it may mean those, unless it says so."""
        bearer = self.mode == "auth"
        reply = self._ask(step, values, method, url, body, token if bearer else None, deadline)
        if reply.status in (400, 401, 403) and (bearer or step == _TOKENINFO):
            raise _Refused(outcome.MISMATCH, f"{step}: Invalid token")
        claims = self._parsed(step, reply)
        if as_text(claims.get("error")) == "invalid_token":
            raise _Refused(outcome.MISMATCH, f"{step}: Invalid token")
        if reply.status >= 300:
            raise _Refused(outcome.INTERNAL, f"{step}: {reply.status} {reply.reason}")
        return claims

    def _own_credentials(self) -> str:
        return "".join(f"&{name}={_escape(self._settings[name])}" for name in ("client_id", "client_secret")
                       if self._settings[name])

    def _introspect(self, values: Values, token: str, deadline: float) -> dict[str, Any]:
        url = self._settings["introspection_url"]
        method, body = "GET", None
        if self.mode == "get":
            url += _escape(token) + self._own_credentials()
        elif self.mode == "post":
            method, body = "POST", f"token={_escape(token)}{self._own_credentials()}"
        return self._look(_INTROSPECTION, values, method, url, body, token, deadline)

    def _buy(self, values: Values, password: str, deadline: float) -> tuple[str, dict[str, Any]]:
        """A token for a password."""
        scope = f"&scope={_escape(self._settings['scope'])}" if self._settings["scope"] else ""
        body = (f"grant_type=password&username={_escape(values['user'])}&password={_escape(password)}"
                f"{self._own_credentials()}{scope}")
        reply = self._ask(_GRANT, values, "POST", self._settings["grant_url"], body, None, deadline)
        claims = self._parsed(_GRANT, reply)
        if reply.status >= 300:
            word = as_text(claims.get("error"))
            raise _Refused(outcome.MISMATCH if word == "invalid_grant" else outcome.INTERNAL,
                           f"{_GRANT}: {word or 'OAuth2 token missing from reply'}")
        token = as_text(claims.get("access_token"))
        if not token:
            raise _Refused(outcome.INTERNAL, f"{_GRANT}: OAuth2 token missing from reply")
        return token, claims

    # -- judging --------------------------------------------------------------------------------------------------

    def _judge(self, values: Values, claims: Mapping[str, Any], step: str) -> None:
        name = self._active[0]
        if self._must_be_active and name not in claims:
            raise _Refused(outcome.MISMATCH, f"{step}: Provided token is not valid")
        self._judge_active(claims, step)
        self._judge_name(values, claims, step)
        scope = self._settings["scope"]
        if scope:
            held = claims.get("scope", claims.get("aud"))
            if not set(scope.split()) <= {word for text in as_words(held) for word in text.split()}:
                raise _Refused(outcome.DISABLED, f"{step}: Token is not valid for scope '{scope}'")
        if not self._audience <= set(as_words(claims.get("aud"))):
            raise _Refused(outcome.DISABLED,
                           f"{step}: Token audience does not include '{self._settings['audience']}'")

    def _judge_active(self, claims: Mapping[str, Any], step: str) -> None:
        name, wanted = self._active
        if name and name in claims and as_text(claims[name]) != wanted:
            raise _Refused(outcome.MISMATCH, f"{step}: Provided token is not valid")

    def _judge_name(self, values: Values, claims: Mapping[str, Any], step: str) -> None:
        attribute = self._settings["username_attribute"]
        if attribute not in claims:
            raise _Refused(outcome.INTERNAL, f"{step}: No username returned")
        said = as_text(claims[attribute])
        if not said or self._format.expand(_Names(said)) != self._format.expand(values):
            # an unknown user would be remembered for all passwords, where the key of the cache has none
            raise _Refused(outcome.MISMATCH if self._grant else outcome.UNKNOWN,
                           f"{step}: Username '{values['user']}' did not match '{said}'")

    def _fields(self, values: Values, claims: Mapping[str, Any], local: bool) -> Pairs:
        return [(key, each.expand(_Claims(values, claims, key, local))) for key, each in self._pass_attrs]


def _shown(value: Any, local: bool) -> str:
    return "\t".join(as_words(value)) if local and isinstance(value, list) else as_text(value)


def _auth_headers(values: Values) -> dict[str, str]:
    headers = {"X-Dovecot-Auth-Service": values["service"]}
    for name, address, port in (("Local", "lip", "lport"), ("Remote", "rip", "rport")):
        if values[address]:
            host = f"[{values[address]}]" if ":" in values[address] else values[address]
            headers[f"X-Dovecot-Auth-{name}"] = f"{host}:{values[port] or '0'}"
    return {name: quote(value, safe=":.[]-_") for name, value in headers.items()}


class _Names:
    """The server's name of the user, in the variables of username_format."""

    __slots__ = ("_user",)

    def __init__(self, user: str) -> None:
        self._user = user

    def __getitem__(self, key: str) -> str:
        local, _, domain = self._user.partition("@")
        return {"user": self._user, "username": local, "domain": domain}.get(key, "")


class _Claims:
    """The variables of pass_attrs: those of the request, %{oauth2:name[:default]}, and %$ for the claim that is named
    like the field."""

    __slots__ = ("_claims", "_field", "_local", "_values")

    def __init__(self, values: Values, claims: Mapping[str, Any], field: str, local: bool) -> None:
        self._values = values
        self._claims = claims
        self._field = field
        self._local = local

    def __getitem__(self, key: str) -> str:
        if key == "$":
            return _shown(self._claims.get(self._field), self._local)
        if not key.startswith("oauth2:"):
            return self._values[key]
        name, _, default = key[7:].partition(":")
        known = name in self._claims and not (self._local and self._claims[name] is None)
        return _shown(self._claims[name], self._local) if known else default
