"""The settings in force for one kind of connection, as typed groups.

In: the sections that apply, strongest first.  Out: frozen dataclasses, built when first asked for.  `<file` values are
read then, once per loaded configuration; a file that cannot be read raises ConfigInvalid with the setting's place.
"""
from __future__ import annotations

from typing import Any, TypeVar

from mailproxy.config import includes, units
from mailproxy.config.schema import GROUPS
from mailproxy.config.schema.auth import AuthSettings
from mailproxy.config.schema.core import CoreSettings
from mailproxy.config.schema.define import Setting
from mailproxy.config.schema.imap import ImapSettings
from mailproxy.config.schema.lmtp import LmtpSettings
from mailproxy.config.schema.login import LoginSettings
from mailproxy.config.schema.logs import LoggingSettings
from mailproxy.config.schema.sieve import SieveSettings
from mailproxy.config.schema.submission import SubmissionSettings
from mailproxy.config.schema.tls import SslSettings
from mailproxy.config.tree import Node, Written
from mailproxy.errors import ConfigInvalid, Problem

#: Certificates with chains and revocation lists, with room to spare.
MAX_VALUE_FILE = 1 << 24

T = TypeVar("T")


def text_of(written: Written, row: Setting) -> str:
    """The text of a written value.  ConfigInvalid: its `<file` cannot be read."""
    if not written.source:
        return written.text
    try:
        return includes.read(written.source, MAX_VALUE_FILE)
    except OSError as error:
        verb = "read" if isinstance(error, IsADirectoryError) else ""
        what = f"read({written.source}) failed" if verb else f"Can't open file {written.source}"
        reason = error.strerror or str(error)
        raise ConfigInvalid([Problem(written.path, written.line, f"{row.name}: {what}: {reason}")]) from None


def value_of(written: Written | None, row: Setting) -> Any:
    """The typed value of a setting.  ConfigInvalid: its `<file` cannot be read or does not hold such a value."""
    if written is None:
        return row.value
    if written.source and written.value is None:
        text = text_of(written, row)
        try:
            written.value = units.parse(row.kind, text, row.choices)
        except ValueError as error:
            raise ConfigInvalid([Problem(written.path, written.line, f"{row.name}: {error}")]) from None
    return written.value


class View:
    """The groups of settings for one kind of connection.  Shared between all connections of that kind."""

    __slots__ = ("_groups", "_nodes")

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self._nodes = nodes
        self._groups: dict[type, Any] = {}

    def written(self, key: str) -> Written | None:
        for node in self._nodes:
            found = node.settings.get(key)
            if found is not None:
                return found
        return None

    def _group(self, cls: type[T]) -> T:
        group: T | None = self._groups.get(cls)
        if group is None:
            group = self._groups[cls] = self._build(cls)
        return group

    def _build(self, cls: type[T]) -> T:
        values: list[Any] = []
        problems: list[Problem] = []
        for row in GROUPS[cls]:
            try:
                values.append(value_of(self.written(row.name), row))
            except ConfigInvalid as error:
                problems += error.problems
        if problems:
            raise ConfigInvalid(problems)
        return cls(*values)

    @property
    def core(self) -> CoreSettings:
        return self._group(CoreSettings)

    @property
    def logging(self) -> LoggingSettings:
        return self._group(LoggingSettings)

    @property
    def login(self) -> LoginSettings:
        return self._group(LoginSettings)

    @property
    def ssl(self) -> SslSettings:
        return self._group(SslSettings)

    @property
    def imap(self) -> ImapSettings:
        return self._group(ImapSettings)

    @property
    def sieve(self) -> SieveSettings:
        return self._group(SieveSettings)

    @property
    def lmtp(self) -> LmtpSettings:
        return self._group(LmtpSettings)

    @property
    def submission(self) -> SubmissionSettings:
        return self._group(SubmissionSettings)

    @property
    def auth(self) -> AuthSettings:
        return self._group(AuthSettings)
