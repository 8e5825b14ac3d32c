"""Settings of the ManageSieve dialogue before login.  The capabilities are those of Pigeonhole 0.5 as it comes; a proxy
cannot know what its backends have switched on."""

from __future__ import annotations

from dataclasses import dataclass

from mailproxy.config.schema.define import text


@dataclass(frozen=True, slots=True)
class SieveSettings:
    managesieve_implementation_string: str = text("Dovecot Pigeonhole")
    managesieve_sieve_capability: str = text(
        "fileinto reject envelope encoded-character vacation subaddress comparator-i;ascii-numeric relational regex "
        "imap4flags copy include variables body enotify environment mailbox date index ihave duplicate mime "
        "foreverypart extracttext")
    managesieve_notify_capability: str = text("mailto")
