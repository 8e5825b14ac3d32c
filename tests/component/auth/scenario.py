"""One auth configuration, usable for our auth process and for a real Dovecot.

Settings and passdb sections are given once; `dovecot_conf` writes them down for Dovecot, `StandIn` shows them to our
role with the attribute names of the configuration package.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Any

from mailproxy.secret import Secret

AUTH_DEFAULTS: dict[str, Any] = {
    "auth_mechanisms": ("plain", "login"), "auth_default_realm": "",
    "auth_username_chars": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@",
    "auth_username_translation": "", "auth_username_format": "%Lu", "auth_master_user_separator": "",
    "auth_verbose": False, "auth_debug": False, "auth_debug_passwords": False, "auth_verbose_passwords": "no",
    "auth_failure_delay": 0.0, "auth_cache_size": 0, "auth_cache_ttl": 3600.0, "auth_cache_negative_ttl": 3600.0,
    "auth_cache_verify_password_with_worker": False, "auth_worker_max_count": 30, "auth_proxy_self": "",
    "auth_ssl_require_client_cert": False, "auth_ssl_username_from_cert": False,
    "first_valid_uid": 500, "last_valid_uid": 0, "first_valid_gid": 1, "last_valid_gid": 0,
    "auth_anonymous_username": "anonymous", "auth_realms": (),
    "auth_policy_server_url": "", "auth_policy_server_api_header": "", "auth_policy_server_timeout_msecs": 2000,
    "auth_policy_hash_mech": "sha256", "auth_policy_hash_nonce": Secret(""), "auth_policy_hash_truncate": 12,
    "auth_policy_request_attributes": "login=%{requested_username} pwhash=%{hashed_password} remote=%{rip} "
                                      "device_id=%{client_id} protocol=%s session_id=%{session}",
    "auth_policy_reject_on_fail": False, "auth_policy_check_before_auth": True, "auth_policy_check_after_auth": True,
    "auth_policy_report_after_auth": True, "auth_policy_log_only": False,
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
    userdbs: list[Passdb] = field(default_factory=list)


def _placed(sections: list[Passdb], directory: str, line: int) -> tuple[Passdb, ...]:
    return tuple(replace(section, args=section.args.replace("@DIR@", directory), line=number)
                 for number, section in enumerate(sections, line))


class StandIn:
    """What the auth role reads of a configuration."""

    protocols = auth_services = ("imap",)
    services: Mapping[str, Any] = {}                # no anvil: no penalties

    def __init__(self, scenario: Scenario, directory: str) -> None:
        self._view = _View(AuthView(**{**AUTH_DEFAULTS, **scenario.settings}))
        self._passdbs = _placed(scenario.passdbs, directory, 1)
        self._userdbs = _placed(scenario.userdbs, directory, 1000)

    def view(self, protocol: str = "", **_filters: object) -> _View:
        return self._view

    def userdbs(self, protocol: str = "") -> tuple[Any, ...]:
        return self._userdbs

    def passdbs(self, protocol: str = "") -> tuple[Passdb, ...]:
        return self._passdbs


_DURATIONS = ("auth_failure_delay", "auth_cache_ttl", "auth_cache_negative_ttl")


def _value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Secret):
        return value.reveal()
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
    for kind, sections in (("passdb", scenario.passdbs), ("userdb", scenario.userdbs)):
        for section in sections:
            out.append(kind + " {")
            for each in fields(section):
                value = getattr(section, each.name)
                if each.name in ("path", "line") or value == each.default:
                    continue
                name = "pass" if each.name == "pass_" else each.name
                out.append(f"  {name} = {_value(name, value)}".replace("@DIR@", directory))
            out.append("}")
    return "\n".join(out) + "\n"
