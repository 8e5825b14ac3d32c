"""Settings of the IMAP dialogue before login."""

from __future__ import annotations

from dataclasses import dataclass

from mailproxy.config.schema.define import size, text, yes_no


@dataclass(frozen=True, slots=True)
class ImapSettings:
    imap_capability: str = text()
    imap_id_send: str = text("name *")
    imap_id_log: str = text()
    imap_id_retain: bool = yes_no("no")
    imap_literal_minus: bool = yes_no("no")
    imap_max_line_length: int = size("64 k")
