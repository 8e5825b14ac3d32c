"""http: an HTTP server knows the users and where their mail is.

The file named by `args` holds `urls` and how to ask: `mode = nginx` speaks the headers of nginx's auth_http,
`mode = json` sends and takes a JSON object.  Servers are asked in order until one answers.  The server compares the
password; a lookup without one (LMTP, mechanisms with challenges) says so.  Blocking: for auth-workers.
What a user sends reaches a header only percent-encoded, and JSON only through the encoder.
"""
from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from mailproxy.auth import outcome
from mailproxy.auth.httpclient import Client, HttpFailure, Reply, Tls, check_header, check_url
from mailproxy.auth.jsonobject import NotAnObject, as_text, parse
from mailproxy.auth.passdb import settings_file
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, Pairs, failure
from mailproxy.auth.schemes import split
from mailproxy.auth.variables import template
from mailproxy.variables import Values

#: Seconds that all servers together may take.
MAX_TIMEOUT = 50.0
MAX_URLS = 16
_SETTINGS = {
    "urls": "", "mode": "nginx", "headers": "", "default_pass_scheme": "PLAIN", "cache_key": "",
    "timeout_msecs": "5000", "max_idle_time_msecs": "60000", "tls_ca_cert_file": "",
    "tls_ca_cert_dir": "", "tls_cert_file": "", "tls_key_file": "", "tls_cipher_suite": "",
    "tls_allow_invalid_cert": "no",
}
#: Variables of the request, as members of the JSON object.
_MEMBERS = ("user", "service", "mech", "lip", "rip", "lport", "rport", "real_lip", "real_rip", "real_lport",
            "real_rport", "secured", "cert", "session", "local_name", "client_id", "master_user", "orig_user")
_STATUS = {"ok": outcome.OK, "fail": outcome.MISMATCH, "unknown": outcome.UNKNOWN, "disabled": outcome.DISABLED,
           "expired": outcome.EXPIRED, "tempfail": outcome.INTERNAL}
#: Headers of a good answer, and what they are here.
_ANSWERS = (("Auth-Server", "host"), ("Auth-Port", "port"), ("Auth-User", "destuser"), ("Auth-Pass", "pass"))
_NGINX_PROTOCOLS = {"submission": "smtp", "lmtp": "smtp"}


def _encoded(text: str) -> str:
    """As nginx does, and bytes that are not ASCII as well."""
    return quote(text.encode("utf-8", "surrogateescape"), safe="!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")


class Http:
    __slots__ = ("_client", "_clock", "_headers", "_json", "_timeout", "_urls", "default_scheme", "needs",
                 "variables")

    blocking = True

    def __init__(self, args: str, clock: Callable[[], float] = time.monotonic) -> None:
        if not args.strip():
            raise ArgsInvalid("http: Configuration file path not given")
        settings = settings_file.load(args.strip(), _SETTINGS)
        self._clock = clock
        self._urls = settings["urls"].split()
        if not 0 < len(self._urls) <= MAX_URLS:
            raise ArgsInvalid(f"http: urls must name 1 to {MAX_URLS} URLs")
        if settings["mode"] not in ("nginx", "json"):
            raise ArgsInvalid(f"http: mode must be nginx or json, not '{settings['mode']}'")
        self._json = settings["mode"] == "json"
        self._headers = self._own_headers(settings["headers"])
        self.default_scheme = settings["default_pass_scheme"].upper()
        self._timeout = min(settings_file.number(settings, "timeout_msecs") / 1000 or MAX_TIMEOUT, MAX_TIMEOUT)
        tls = Tls(settings["tls_ca_cert_file"], settings["tls_ca_cert_dir"], settings["tls_cert_file"],
                  settings["tls_key_file"], settings["tls_cipher_suite"],
                  settings_file.yes(settings, "tls_allow_invalid_cert"))
        for url in self._urls:
            try:
                check_url(url)
            except ArgsInvalid as error:
                raise ArgsInvalid(f"http: {args.strip()}: urls: {error}") from None
        self._client = Client("mailproxy-http", tls.context() if any(url.startswith("https:") for url in self._urls)
                              else None, settings_file.number(settings, "max_idle_time_msecs") / 1000)
        self.variables = template(settings["cache_key"]).key_variables or None
        self.needs = _MEMBERS

    @staticmethod
    def _own_headers(text: str) -> dict[str, str]:
        headers = {}
        for line in text.split(";") if text else ():
            name, colon, value = line.partition(":")
            if not colon:
                raise ArgsInvalid(f"http: headers: expected 'Name: value; Name: value', not '{name.strip()}'")
            check_header(name.strip(), value.strip())
            headers[name.strip()] = value.strip()
        return headers

    def open(self) -> None:
        """Connects on first use."""

    def close(self) -> None:
        self._client.close()

    def lookup(self, values: Values) -> Answer:
        return self._look_up(values, None)

    def verify(self, values: Values, password: str) -> Answer:
        return self._look_up(values, password)

    def _look_up(self, values: Values, password: str | None) -> Answer:
        method, headers, body = self._json_question(values, password) if self._json \
            else self._nginx_question(values, password)
        end = self._clock() + MAX_TIMEOUT
        awake = [url for url in self._urls if not self._client.resting(url)]
        errors = []
        for url in awake or self._urls:
            now = self._clock()
            if now >= end:
                break
            try:
                reply = self._client.request(method, url, headers, body, min(end, now + self._timeout))
            except HttpFailure as error:
                errors.append(str(error))
                continue
            if reply.status == 200:
                return self._json_answer(reply) if self._json else self._nginx_answer(reply)
            errors.append(f"{url.partition('?')[0].rpartition('@')[2]}: {reply.status} {reply.reason}")
        return failure("; ".join(errors))

    # -- nginx ----------------------------------------------------------------------------------------------------

    def _nginx_question(self, values: Values, password: str | None) -> tuple[str, dict[str, str], None]:
        service = values["service"]
        headers = {**self._headers, "Auth-Method": "plain" if password is not None else "none",
                   "Auth-User": _encoded(values["user"]), "Auth-Pass": _encoded(password or ""),
                   "Auth-Protocol": _encoded(_NGINX_PROTOCOLS.get(service, service)), "Auth-Login-Attempt": "1",
                   "Client-IP": _encoded(values["rip"])}
        if values["secured"] == "TLS":
            headers["Auth-SSL"] = "on"
            if values["cert"]:
                headers["Auth-SSL-Verify"] = "SUCCESS"
        for name, key in (("Proxy-Protocol-Server-Addr", "lip"), ("Proxy-Protocol-Server-Port", "lport")):
            if values[key] not in ("", "0"):
                headers[name] = _encoded(values[key])
        return "GET", headers, None

    def _nginx_answer(self, reply: Reply) -> Answer:
        status = _header(reply, "Auth-Status")
        if not status:
            return failure("the answer has no Auth-Status header")
        code = _header(reply, "Auth-Error-Code")
        if status != "OK":
            if code.startswith("4"):
                return failure(f"{status} ({code})")
            return Answer(outcome.MISMATCH, note=status, fields=[("reason", status)])
        fields = [(field, value) for name, field in _ANSWERS if (value := _header(reply, name))]
        if fields and fields[0][0] == "host":
            fields.append(("proxy", "y"))
        return Answer(outcome.OK, None, fields)

    # -- JSON -----------------------------------------------------------------------------------------------------

    def _json_question(self, values: Values, password: str | None) -> tuple[str, dict[str, str], str]:
        members: dict[str, str | None] = {name: values[name] for name in _MEMBERS if values[name]}
        members["password"] = password
        return "POST", {**self._headers, "Content-Type": "application/json"}, json.dumps(members)

    def _json_answer(self, reply: Reply) -> Answer:
        try:
            members = parse(reply.body)
        except NotAnObject as error:
            return failure(str(error))
        result = _STATUS.get(as_text(members.get("status")))
        if result is None:
            return failure("the answer has no known status")
        reason = _line(as_text(members.get("reason")))
        if result == outcome.INTERNAL:
            return failure(reason or "the server says tempfail")
        if result != outcome.OK:
            return Answer(result, note=reason, fields=[("reason", reason)] if reason else [])
        given = members.get("fields")
        if given is not None and not isinstance(given, dict):
            return failure("fields is not an object")
        return self._passed(given or {})

    def _passed(self, given: Mapping[str, Any]) -> Answer:
        fields: Pairs = []
        password = None
        for name, value in given.items():
            if not name or not name.isprintable() or "=" in name or " " in name:
                return failure("a field's name is no word")
            if value is None or value is False:
                continue                    # a field is true by being there
            if isinstance(value, (list, dict)):
                return failure(f"field {name[:50]} is neither text, number nor truth")
            text = "y" if value is True else as_text(value)
            if name == "password":
                scheme, data = split(text, self.default_scheme)
                password = "{" + scheme + "}" + data
            else:
                fields.append((name, text))
        return Answer(outcome.OK, password, fields)


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:512]


def _header(reply: Reply, name: str) -> str:
    """http.client reads headers as latin-1; what was meant is UTF-8."""
    value = reply.headers.get(name, "")
    return _line(value.encode("latin-1", "replace").decode("utf-8", "surrogateescape").strip())
