"""Everything that may stand in a configuration file, by topic.

ROOT is the whole language: settings by name, sections by type.  `GROUPS` are the settings that mailproxy reads, as
typed views; the tables of `mailstore`, `protocols` and `admin` are accepted because unmodified files contain them.
"""
from __future__ import annotations

from mailproxy.config.schema.admin import ADMIN
from mailproxy.config.schema.auth import AuthSettings
from mailproxy.config.schema.core import CoreSettings
from mailproxy.config.schema.define import MERGE, SectionType, Setting, settings_of
from mailproxy.config.schema.imap import ImapSettings
from mailproxy.config.schema.lmtp import LmtpSettings
from mailproxy.config.schema.login import LoginSettings
from mailproxy.config.schema.logs import LoggingSettings
from mailproxy.config.schema.mailstore import MAILSTORE
from mailproxy.config.schema.protocols import PROTOCOLS
from mailproxy.config.schema.sections import SECTIONS
from mailproxy.config.schema.sieve import SieveSettings
from mailproxy.config.schema.submission import SubmissionSettings
from mailproxy.config.schema.tls import SslSettings

GROUPS: dict[type, tuple[Setting, ...]] = {
    cls: settings_of(cls)
    for cls in (CoreSettings, LoggingSettings, LoginSettings, SslSettings, ImapSettings, SieveSettings,
                SubmissionSettings, AuthSettings, LmtpSettings)}
#: The settings that mailproxy reads (the others are only checked).
USED: dict[str, Setting] = {row.name: row for rows in GROUPS.values() for row in rows}
ROOT = SectionType("", MERGE, {**MAILSTORE, **PROTOCOLS, **ADMIN, **USED}, SECTIONS)
#: What cannot depend on an address or server name: the auth service reads its settings once per protocol.
NOT_BY_ADDRESS: frozenset[str] = frozenset(
    [row.name for row in GROUPS[AuthSettings]]
    + ["passdb", "userdb", "base_dir", "ssl_client_ca_dir", "ssl_client_ca_file", "verbose_proctitle"])
