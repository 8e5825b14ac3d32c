"""Settings that Dovecot's proxying acts upon and mailproxy does not yet: whoever writes one is told.

In: the scopes of a configuration.  Out: texts of warnings.  Whoever builds a feature takes its name out.
Settings of what a proxy has no part in (mail storage, other services) are not listed: nobody expects anything of them.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from mailproxy.config.schema import USED
from mailproxy.config.tree import Scope

#: Without effect, though written.
SETTINGS: frozenset[str] = frozenset({
    "login_access_sockets", "login_plugins", "login_plugin_dir", "login_proxy_max_disconnect_delay",
    "login_proxy_notify_path", "login_proxy_rawlog_dir",
    "ssl_crypto_device",
    "log_debug", "log_core_filter", "process_shutdown_filter",
    "auth_realms", "auth_krb5_keytab", "auth_gssapi_hostname", "auth_use_winbind", "auth_winbind_helper_path",
    "auth_policy_server_url"})
#: Without effect and not worth a word: they belong to what a listed one switches on, or steer nothing here.
SILENT: frozenset[str] = frozenset({
    "version_ignore", "config_cache_size", "stats_writer_socket_path", "auth_stats",
    "mail_max_userip_connections", "imap_max_line_length",
    "first_valid_uid", "last_valid_uid", "first_valid_gid", "last_valid_gid",
    "auth_policy_server_api_header", "auth_policy_server_timeout_msecs", "auth_policy_hash_mech",
    "auth_policy_hash_nonce", "auth_policy_hash_truncate", "auth_policy_request_attributes",
    "auth_policy_reject_on_fail", "auth_policy_check_before_auth", "auth_policy_check_after_auth",
    "auth_policy_report_after_auth", "auth_policy_log_only"})


def warn_unbuilt(scopes: Iterable[Scope]) -> Iterator[str]:
    for scope in scopes:
        for name in sorted(SETTINGS & scope.node.settings.keys()):
            written = scope.node.settings[name]
            if written.value not in (USED[name].value, ""):
                yield f"{written.place}: {name} is not supported yet, it has no effect"
