"""One auth configuration, usable for our auth process and for a real Dovecot.

Settings and passdb sections are given once; `dovecot_conf` writes them down for Dovecot, `StandIn` shows them to our
role with the attribute names of the configuration package.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

AUTH_DEFAULTS: dict[str, Any] = {
    "auth_mechanisms": ("plain", "login"), "auth_default_realm": "",
    "auth_username_chars": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@",
    "auth_username_translation": "", "auth_username_format": "%Lu", "auth_master_user_separator": "",
    "auth_verbose": False, "auth_debug": False, "auth_debug_passwords": False, "auth_verbose_passwords": "no",
    "auth_failure_delay": 0.0, "auth_cache_size": 0, "auth_cache_ttl": 3600.0, "auth_cache_negative_ttl": 3600.0,
    "auth_cache_verify_password_with_worker": False, "auth_worker_max_count": 30, "auth_proxy_self": "",
    "auth_ssl_require_client_cert": False, "auth_ssl_username_from_cert": False,
    "auth_anonymous_username": "anonymous",
}
AuthView = make_dataclass("AuthView", list(AUTH_DEFAULTS), frozen=True)


@dataclass(frozen=True)
class Passdb:
    driver: str
    args: str = ""
    name: str = ""
    default_fields: str = ""
    override_fields: str = ""
    mechanisms: tuple[str, ...] = ()
    username_filter: tuple[str, ...] = ()
    skip: str = "never"
    result_success: str = "return-ok"
    result_failure: str = "continue"
    result_internalfail: str = "continue"
    deny: bool = False
    pass_: bool = False
    master: bool = False
    auth_verbose: str = "default"
    path: str = "test.conf"
    line: int = 0


@dataclass(frozen=True)
class _View:
    auth: Any


@dataclass
class Scenario:
    """`files`: name -> content, put into the scenario's directory; args refer to it as @DIR@."""

    passdbs: list[Passdb]
    settings: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    sqlite: str = ""                    # SQL script that makes @DIR@/users.db


class StandIn:
    """What the auth role reads of a configuration."""

    protocols = ("imap",)
    services: Mapping[str, Any] = {}                # no anvil: no penalties

    def __init__(self, scenario: Scenario, directory: str) -> None:
        self._view = _View(AuthView(**{**AUTH_DEFAULTS, **scenario.settings}))
        self._passdbs = tuple(
            Passdb(**{**{each.name: getattr(passdb, each.name) for each in fields(passdb)},
                      "args": passdb.args.replace("@DIR@", directory), "line": number})
            for number, passdb in enumerate(scenario.passdbs, 1))

    def view(self, protocol: str = "", **_filters: object) -> _View:
        return self._view

    def passdbs(self, protocol: str = "") -> tuple[Passdb, ...]:
        return self._passdbs


_DURATIONS = ("auth_failure_delay", "auth_cache_ttl", "auth_cache_negative_ttl")


def _value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(value)
    if key in _DURATIONS:
        return f"{value:.0f} secs"
    return str(value)


def dovecot_conf(scenario: Scenario, directory: str) -> str:
    """A whole dovecot.conf with only an auth service worth speaking of."""
    out = [f"base_dir = {directory}/run", f"state_dir = {directory}/run", f"log_path = {directory}/dovecot.log",
           "protocols =", "ssl = no", "listen = 127.0.0.1", "default_internal_user = dovecot",
           "service anvil {\n unix_listener anvil-auth-penalty {\n  mode = 0\n }\n}",
           "service stats {\n unix_listener stats-writer {\n  mode = 0666\n }\n}"]
    out += [f"{key} = {_value(key, value)}" for key, value in
            {"auth_mechanisms": AUTH_DEFAULTS["auth_mechanisms"], "auth_failure_delay": 0.0,
             **scenario.settings}.items()]
    for passdb in scenario.passdbs:
        out.append("passdb {")
        for each in fields(passdb):
            value = getattr(passdb, each.name)
            if each.name in ("path", "line") or value == each.default:
                continue
            name = "pass" if each.name == "pass_" else each.name
            out.append(f"  {name} = {_value(name, value)}".replace("@DIR@", directory))
        out.append("}")
    return "\n".join(out) + "\n"
