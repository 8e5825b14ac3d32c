"""Settings of the LMTP proxy."""

from __future__ import annotations

from dataclasses import dataclass

from mailproxy.config.schema.define import text, yes_no


@dataclass(frozen=True, slots=True)
class LmtpSettings:
    lmtp_proxy: bool = yes_no("no")
    lmtp_add_received_header: bool = yes_no("yes")
    lmtp_verbose_replies: bool = yes_no("no")
    lmtp_client_workarounds: str = text()
    lmtp_rawlog_dir: str = text()
    lmtp_proxy_rawlog_dir: str = text()
    recipient_delimiter: str = text("+")
    mail_temp_dir: str = text("/tmp")
