"""The services that exist before any file is read, with what is special about each.

A row: name, the settings that differ from a new service's, its listeners.  The order is the one in which
services are counted and listed.
"""
from __future__ import annotations

from typing import NamedTuple

Texts = dict[str, str]


class Builtin(NamedTuple):
    """`listeners`: (section type, name, settings that differ from a new listener's)."""

    settings: Texts
    listeners: tuple[tuple[str, str, Texts], ...]


SERVICES: dict[str, Builtin] = {
    "managesieve-login": Builtin(
        {"protocol": "sieve", "type": "login", "executable": "managesieve-login", "user": "$default_login_user",
         "chroot": "login", "service_count": "1"},
        (("inet_listener", "sieve", {"port": "4190"}),)),
    "managesieve": Builtin(
        {"protocol": "sieve", "executable": "managesieve", "client_limit": "1", "service_count": "1"},
        (("unix_listener", "login/sieve", {"mode": "0666"}),)),
    "tcpwrap": Builtin(
        {"executable": "tcpwrap", "user": "$default_internal_user", "client_limit": "1"},
        ()),
    "health-check": Builtin(
        {"executable": "script -p health-check.sh", "user": "$default_internal_user",
         "drop_priv_before_exec": "yes", "client_limit": "1"},
        ()),
    "submission": Builtin(
        {"protocol": "submission", "executable": "submission", "extra_groups": "$default_internal_group",
         "process_limit": "1024",
         "client_limit": "1", "service_count": "1"},
        (("unix_listener", "login/submission", {"mode": "0666"}),)),
    "submission-login": Builtin(
        {"protocol": "submission", "type": "login", "executable": "submission-login", "user": "$default_login_user",
         "chroot": "login", "service_count": "1"},
        (("inet_listener", "submission", {"port": "587"}),)),
    "stats": Builtin(
        {"executable": "stats", "user": "$default_internal_user", "process_limit": "1",
         "idle_kill": "4294967295 secs"},
        (("unix_listener", "stats-reader", {}),
         ("unix_listener", "stats-writer", {"mode": "0660", "group": "$default_internal_group"}),
         ("unix_listener", "login/stats-writer", {"user": "$default_login_user"}),)),
    "replicator": Builtin(
        {"executable": "replicator", "process_limit": "1", "idle_kill": "4294967295 secs"},
        (("unix_listener", "replicator", {"user": "$default_internal_user"}),
         ("unix_listener", "replicator-doveadm", {"mode": "00", "user": "$default_internal_user"}),)),
    "aggregator": Builtin(
        {"executable": "aggregator", "user": "$default_internal_user", "chroot": "."},
        (("unix_listener", "replication-notify", {}),
         ("fifo_listener", "replication-notify-fifo", {}),)),
    "pop3": Builtin(
        {"protocol": "pop3", "executable": "pop3", "extra_groups": "$default_internal_group", "process_limit": "1024",
         "client_limit": "1", "service_count": "1"},
        (("unix_listener", "login/pop3", {"mode": "0666"}),)),
    "pop3-login": Builtin(
        {"protocol": "pop3", "type": "login", "executable": "pop3-login", "user": "$default_login_user",
         "chroot": "login", "service_count": "1"},
        (("inet_listener", "pop3", {"port": "110"}),
         ("inet_listener", "pop3s", {"port": "995", "ssl": "yes"}),)),
    "old-stats": Builtin(
        {"executable": "old-stats", "user": "$default_internal_user", "chroot": "empty", "process_limit": "1",
         "idle_kill": "4294967295 secs"},
        (("unix_listener", "old-stats", {}),
         ("fifo_listener", "old-stats-mail", {}),
         ("fifo_listener", "old-stats-user", {}),)),
    "log": Builtin(
        {"type": "log", "executable": "log", "process_limit": "1", "idle_kill": "4294967295 secs"},
        (("unix_listener", "log-errors", {}),)),
    "lmtp": Builtin(
        {"protocol": "lmtp", "executable": "lmtp", "extra_groups": "$default_internal_group", "client_limit": "1"},
        (("unix_listener", "lmtp", {"mode": "0666"}),)),
    "ipc": Builtin(
        {"executable": "ipc", "user": "$default_internal_user", "chroot": "empty", "process_limit": "1"},
        (("unix_listener", "ipc", {"user": "$default_internal_user"}),
         ("unix_listener", "login/ipc-proxy", {"user": "$default_login_user"}),)),
    "indexer-worker": Builtin(
        {"type": "worker", "executable": "indexer-worker", "extra_groups": "$default_internal_group",
         "process_limit": "10",
         "client_limit": "1"},
        (("unix_listener", "indexer-worker", {"user": "$default_internal_user"}),)),
    "indexer": Builtin(
        {"executable": "indexer", "user": "$default_internal_user", "process_limit": "1"},
        (("unix_listener", "indexer", {"mode": "0666"}),)),
    "imap": Builtin(
        {"protocol": "imap", "executable": "imap", "extra_groups": "$default_internal_group", "process_limit": "1024",
         "client_limit": "1", "service_count": "1"},
        (("unix_listener", "login/imap", {"mode": "0666"}),
         ("unix_listener", "imap-master", {}),)),
    "imap-urlauth-worker": Builtin(
        {"protocol": "imap", "executable": "imap-urlauth-worker", "extra_groups": "$default_internal_group",
         "process_limit": "1024",
         "client_limit": "1", "service_count": "1"},
        (("unix_listener", "imap-urlauth-worker", {"user": "$default_internal_user"}),)),
    "imap-urlauth": Builtin(
        {"protocol": "imap", "executable": "imap-urlauth", "user": "$default_internal_user", "process_limit": "1024",
         "client_limit": "1", "service_count": "1"},
        (("unix_listener", "token-login/imap-urlauth", {"mode": "0666"}),)),
    "imap-urlauth-login": Builtin(
        {"protocol": "imap", "type": "login", "executable": "imap-urlauth-login", "user": "$default_login_user",
         "chroot": "token-login", "service_count": "1"},
        (("unix_listener", "imap-urlauth", {"mode": "0666"}),)),
    "imap-login": Builtin(
        {"protocol": "imap", "type": "login", "executable": "imap-login", "user": "$default_login_user",
         "chroot": "login", "service_count": "1"},
        (("inet_listener", "imap", {"port": "143"}),
         ("inet_listener", "imaps", {"port": "993", "ssl": "yes"}),)),
    "imap-hibernate": Builtin(
        {"protocol": "imap", "executable": "imap-hibernate", "user": "$default_internal_user"},
        (("unix_listener", "imap-hibernate", {"mode": "0660", "group": "$default_internal_group"}),)),
    "doveadm": Builtin(
        {"executable": "doveadm-server", "extra_groups": "$default_internal_group", "client_limit": "1",
         "service_count": "1"},
        (("unix_listener", "doveadm-server", {}),)),
    "dns-client": Builtin(
        {"executable": "dns-client", "user": "$default_internal_user", "client_limit": "1"},
        (("unix_listener", "dns-client", {"mode": "0666"}),
         ("unix_listener", "login/dns-client", {"mode": "0666"}),)),
    "director": Builtin(
        {"executable": "director", "user": "$default_internal_user", "chroot": ".", "process_limit": "1",
         "idle_kill": "4294967295 secs"},
        (("unix_listener", "login/director", {"mode": "00"}),
         ("unix_listener", "director-admin", {}),
         ("fifo_listener", "login/proxy-notify", {"mode": "00"}),)),
    "dict": Builtin(
        {"executable": "dict", "user": "$default_internal_user", "client_limit": "1"},
        (("unix_listener", "dict", {"mode": "0660", "group": "$default_internal_group"}),)),
    "dict-async": Builtin(
        {"executable": "dict", "user": "$default_internal_user"},
        (("unix_listener", "dict-async", {"mode": "0660", "group": "$default_internal_group"}),)),
    "config": Builtin(
        {"type": "config", "executable": "config", "idle_kill": "4294967295 secs"},
        (("unix_listener", "config", {}),)),
    "auth": Builtin(
        {"executable": "auth", "user": "$default_internal_user", "process_limit": "1"},
        (("unix_listener", "login/login", {"mode": "0666"}),
         ("unix_listener", "token-login/tokenlogin", {"mode": "0666"}),
         ("unix_listener", "auth-login", {"user": "$default_internal_user"}),
         ("unix_listener", "auth-client", {"user": "$default_internal_user"}),
         ("unix_listener", "auth-userdb", {"mode": "0666", "user": "$default_internal_user"}),
         ("unix_listener", "auth-master", {}),)),
    "auth-worker": Builtin(
        {"type": "worker", "executable": "auth -w", "client_limit": "1"},
        (("unix_listener", "auth-worker", {"user": "$default_internal_user"}),)),
    "anvil": Builtin(
        {"type": "anvil", "executable": "anvil", "user": "$default_internal_user", "chroot": "empty",
         "process_min_avail": "1", "process_limit": "1", "idle_kill": "4294967295 secs"},
        (("unix_listener", "anvil", {}),
         ("unix_listener", "anvil-auth-penalty", {}),)),
}
