"""Settings of the instance as a whole: directories, protocols, limits, users."""

from __future__ import annotations

from dataclasses import dataclass

from mailproxy.config.schema.define import number, seconds, size, text, words, yes_no


@dataclass(frozen=True, slots=True)
class CoreSettings:
    base_dir: str = text("/run/mailproxy")
    state_dir: str = text("/var/lib/mailproxy")
    libexec_dir: str = text("/usr/lib/dovecot")
    instance_name: str = text("mailproxy")
    protocols: tuple[str, ...] = words("imap pop3 lmtp")
    listen: tuple[str, ...] = words("*, ::")
    hostname: str = text()
    shutdown_clients: bool = yes_no("yes")
    version_ignore: bool = yes_no("no")
    verbose_proctitle: bool = yes_no("no")
    config_cache_size: int = size("1 M")
    import_environment: tuple[str, ...] = words(
        "TZ CORE_OUTOFMEM CORE_ERROR LISTEN_PID LISTEN_FDS NOTIFY_SOCKET")
    stats_writer_socket_path: str = text("stats-writer")
    default_process_limit: int = number("100")
    default_client_limit: int = number("1000")
    default_idle_kill: float = seconds("1 mins")
    default_vsz_limit: int = size("256 M")
    default_login_user: str = text("dovenull")
    default_internal_user: str = text("dovecot")
    default_internal_group: str = text("dovecot")
