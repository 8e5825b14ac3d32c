"""Settings that Dovecot's proxying acts upon and mailproxy does not yet: whoever writes one is told.

In: the scopes and services of a configuration.  Out: texts of warnings.  Whoever builds a feature takes its name out.
Settings of what a proxy has no part in (mail storage, other services) are not listed: nobody expects anything of them.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from mailproxy.config.schema import USED
from mailproxy.config.services import Service
from mailproxy.config.tree import Scope

#: Without effect, though written.
SETTINGS: frozenset[str] = frozenset({
    "login_access_sockets", "login_plugins", "login_plugin_dir", "login_proxy_max_disconnect_delay",
    "login_proxy_notify_path", "login_proxy_rawlog_dir",
    "haproxy_trusted_networks", "haproxy_timeout",
    "ssl_cipher_suites", "ssl_dh", "ssl_crypto_device", "verbose_ssl",
    "log_debug", "log_core_filter", "process_shutdown_filter",
    "import_environment",
    "auth_realms", "auth_krb5_keytab", "auth_gssapi_hostname", "auth_use_winbind", "auth_winbind_helper_path",
    "auth_policy_server_url"})
#: Without effect and not worth a word: they belong to what a listed one switches on, or steer nothing here.
SILENT: frozenset[str] = frozenset({
    "libexec_dir", "version_ignore", "config_cache_size", "stats_writer_socket_path", "auth_stats",
    "mail_max_userip_connections", "imap_max_line_length",
    "first_valid_uid", "last_valid_uid", "first_valid_gid", "last_valid_gid",
    "auth_policy_server_api_header", "auth_policy_server_timeout_msecs", "auth_policy_hash_mech",
    "auth_policy_hash_nonce", "auth_policy_hash_truncate", "auth_policy_request_attributes",
    "auth_policy_reject_on_fail", "auth_policy_check_before_auth", "auth_policy_check_after_auth",
    "auth_policy_report_after_auth", "auth_policy_log_only"})
#: The services that have a meaning for `haproxy = yes`.
_LOGIN = "login"


def warn_unbuilt(scopes: Iterable[Scope], services: Iterable[Service]) -> Iterator[str]:
    for scope in scopes:
        for name in sorted(SETTINGS & scope.node.settings.keys()):
            written = scope.node.settings[name]
            if written.value not in (USED[name].value, ""):
                yield f"{written.place}: {name} is not supported yet, it has no effect"
    for service in services:
        if service.type == _LOGIN and any(listener.haproxy for listener in service.inet_listeners):
            yield f"service({service.name}): haproxy = yes is not supported yet, connections with a PROXY header fail"
