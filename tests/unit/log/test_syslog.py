"""Records for syslog."""
from __future__ import annotations

import syslog

import pytest

from mailproxy.log import sink
from mailproxy.log import syslog as target
from mailproxy.log.format import TYPES, heads


@pytest.mark.parametrize(("kind", "priority", "text"), [
    (0, syslog.LOG_DEBUG, "auth: Debug: x"), (1, syslog.LOG_INFO, "auth: x"),
    (2, syslog.LOG_WARNING, "auth: Warning: x"), (3, syslog.LOG_ERR, "auth: Error: x"),
    (4, syslog.LOG_CRIT, "auth: Fatal: x"), (5, syslog.LOG_CRIT, "auth: Panic: x")])
def test_priorities_and_texts(monkeypatch: pytest.MonkeyPatch, kind: int, priority: int, text: str) -> None:
    opened: list[tuple[object, ...]] = []
    sent: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "openlog", lambda *arguments: opened.append(arguments))
    monkeypatch.setattr(syslog, "syslog", lambda *record: sent.append(record))
    made = sink.open_sinks(sink.Settings(syslog_facility="local3", ident="mailproxy-r1"))
    made[kind].put(kind, b"T ", heads("auth")[kind], b"x")
    assert opened == [("mailproxy-r1", syslog.LOG_NDELAY, syslog.LOG_LOCAL3)]
    assert sent == [(priority, text)]


def test_every_type_has_a_priority() -> None:
    assert len(target.PRIORITIES) == len(TYPES)
