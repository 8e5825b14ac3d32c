"""Settings of the auth service."""
# ruff: noqa: RUF009 - the calls declare dataclass fields
from __future__ import annotations

from dataclasses import dataclass

from mailproxy.config.schema.define import number, seconds, secret, size, text, words, yes_no
from mailproxy.secret import Secret


@dataclass(frozen=True, slots=True)
class AuthSettings:
    auth_mechanisms: tuple[str, ...] = words("plain")
    auth_realms: tuple[str, ...] = words()
    auth_default_realm: str = text()
    auth_username_chars: str = text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@")
    auth_username_translation: str = text()
    auth_username_format: str = text("%Lu")
    auth_master_user_separator: str = text()
    auth_anonymous_username: str = text("anonymous")
    auth_verbose: bool = yes_no("no")
    auth_debug: bool = yes_no("no")
    auth_debug_passwords: bool = yes_no("no")
    auth_verbose_passwords: str = text("no")
    auth_failure_delay: float = seconds("2 secs")
    auth_cache_size: int = size("0")
    auth_cache_ttl: float = seconds("1 hours")
    auth_cache_negative_ttl: float = seconds("1 hours")
    auth_cache_verify_password_with_worker: bool = yes_no("no")
    auth_worker_max_count: int = number("30")
    auth_proxy_self: str = text()
    auth_ssl_require_client_cert: bool = yes_no("no")
    auth_ssl_username_from_cert: bool = yes_no("no")
    auth_krb5_keytab: str = text()
    auth_gssapi_hostname: str = text()
    auth_use_winbind: bool = yes_no("no")
    auth_winbind_helper_path: str = text("/usr/bin/ntlm_auth")
    auth_stats: bool = yes_no("no")
    auth_policy_server_url: str = text()
    auth_policy_server_api_header: str = text()
    auth_policy_server_timeout_msecs: int = number("2000")
    auth_policy_hash_mech: str = text("sha256")
    auth_policy_hash_nonce: Secret = secret()
    auth_policy_hash_truncate: int = number("12")
    auth_policy_request_attributes: str = text(
        "login=%{requested_username} pwhash=%{hashed_password} remote=%{rip} device_id=%{client_id} protocol=%s"
        " session_id=%{session}")
    auth_policy_reject_on_fail: bool = yes_no("no")
    auth_policy_check_before_auth: bool = yes_no("yes")
    auth_policy_check_after_auth: bool = yes_no("yes")
    auth_policy_report_after_auth: bool = yes_no("yes")
    auth_policy_log_only: bool = yes_no("no")
    first_valid_uid: int = number("500")
    last_valid_uid: int = number("0")
    first_valid_gid: int = number("1")
    last_valid_gid: int = number("0")
