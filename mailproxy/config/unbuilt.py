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
    "login_access_sockets", "login_plugins", "login_plugin_dir", "ssl_crypto_device",
    "log_debug", "log_core_filter", "process_shutdown_filter",
    "auth_krb5_keytab", "auth_gssapi_hostname", "auth_use_winbind", "auth_winbind_helper_path"})
#: Without effect and not worth a word: they belong to what a listed one switches on, or steer nothing here.
SILENT: frozenset[str] = frozenset({
    "version_ignore", "config_cache_size", "stats_writer_socket_path", "auth_stats",
    "imap_max_line_length"})


def warn_unbuilt(scopes: Iterable[Scope]) -> Iterator[str]:
    for scope in scopes:
        for name in sorted(SETTINGS & scope.node.settings.keys()):
            written = scope.node.settings[name]
            if written.value not in (USED[name].value, ""):
                yield f"{written.place}: {name} is not supported yet, it has no effect"
