"""Values for the templates among the foreign configurations, each in two ways, so that every branch is read."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jinja2

_MAILU: dict[str, Any] = {
    "POSTMASTER": "admin", "DOMAIN": "example.org", "HOSTNAMES": "mail.example.org,mx.example.org",
    "SMTP_ADDRESS": "127.0.0.2", "FRONT_ADDRESS": "127.0.0.3", "MESSAGE_SIZE_LIMIT": "50000000", "CPU_COUNT": 2,
    "RECIPIENT_DELIMITER": "+", "SUBNET": "192.168.203.0/24"}
_LISTENERS = {f"{kind}_{port}": True for kind in ("PORT", "PROXY_PROTOCOL")
              for port in (25, 110, 143, 465, 587, 993, 995, 4190)}
_CHATMAIL: dict[str, Any] = {
    "max_imap_connections": 800, "privacy_mail": "", "mailboxes_dir": "/home/vmail/mail", "imap_compress": False,
    "max_message_size": 31457280, "max_mailbox_size_mb": 500, "tls_cert_path": "cert.pem", "tls_key_path": "key.pem",
    "imap_rawlog": False, "mtail_address": ""}

#: (label, values): names of one project mean nothing to the templates of another.
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("plain", {**_MAILU, "FULL_TEXT_SEARCH": "off", "config": SimpleNamespace(**_CHATMAIL)}),
    ("full", {**_MAILU, **_LISTENERS, "TLS": ("a.pem", "a.key", "b.pem", "b.key"), "TLS_FLAVOR": "letsencrypt",
              "TLS_465": True, "TLS_993": True, "TLS_995": True, "SUBNET6": "fd00::/64",
              "REAL_IP_FROM": "10.0.0.1,10.0.0.2", "COMPRESSION": "zstd", "COMPRESSION_LEVEL": 3,
              "FULL_TEXT_SEARCH": "en,fr", "FULL_TEXT_SEARCH_ATTACHMENTS": True, "FTS_ATTACHMENTS_ADDRESS": "tika",
              "disable_ipv6": True, "debug": True,
              "config": SimpleNamespace(**{**_CHATMAIL, "privacy_mail": "privacy@example.org", "imap_compress": True,
                                           "imap_rawlog": True, "mtail_address": "127.0.0.1"})}),
)


def render(text: str, values: dict[str, Any]) -> str:
    return jinja2.Environment(autoescape=False).from_string(text).render(values)
