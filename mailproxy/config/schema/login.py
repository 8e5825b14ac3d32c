"""Settings of the login processes: greeting, log line, proxying, trust."""

from __future__ import annotations

from dataclasses import dataclass

from mailproxy.config.schema.define import millis, number, seconds, text, yes_no


@dataclass(frozen=True, slots=True)
class LoginSettings:
    login_greeting: str = text("Dovecot ready.")
    login_log_format: str = text("%$: %s")
    login_log_format_elements: str = text("user=<%u> method=%m rip=%r lip=%l mpid=%e %c session=<%{session}>")
    login_access_sockets: str = text()
    login_plugin_dir: str = text("/usr/lib/dovecot/modules/login")
    login_plugins: str = text()
    login_trusted_networks: str = text()
    login_source_ips: str = text()
    login_proxy_timeout: float = millis("30 secs")
    login_proxy_max_reconnects: int = number("3")
    login_proxy_max_disconnect_delay: float = seconds("0")
    login_proxy_rawlog_dir: str = text()
    login_proxy_notify_path: str = text("proxy-notify")
    disable_plaintext_auth: bool = yes_no("yes")
    mail_max_userip_connections: int = number("10")
    haproxy_trusted_networks: str = text()
    haproxy_timeout: float = seconds("3 secs")
