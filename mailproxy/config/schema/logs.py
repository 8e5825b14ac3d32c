"""Settings of the log."""

from __future__ import annotations

from dataclasses import dataclass

from mailproxy.config.schema.define import text, yes_no


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    log_path: str = text("syslog")
    info_log_path: str = text()
    debug_log_path: str = text()
    syslog_facility: str = text("mail")
    log_timestamp: str = text("%b %d %H:%M:%S ")
    log_debug: str = text()
    log_core_filter: str = text()
    process_shutdown_filter: str = text()
    verbose_ssl: bool = yes_no("no")
