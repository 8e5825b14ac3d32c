"""The table of connections."""
from __future__ import annotations

import pytest

from mailproxy.anvil import counts
from mailproxy.anvil.counts import Counts


def test_counts_by_ident_and_process() -> None:
    table = Counts()
    for pid in (1, 1, 2):
        assert table.connect(pid, "imap/10.0.0.1/a/b")
    assert table.look_up("imap/10.0.0.1/a/b") == 3
    assert sorted(table.rows()) == [("imap/10.0.0.1/a/b", 1, 2), ("imap/10.0.0.1/a/b", 2, 1)]
    assert table.disconnect(1, "imap/10.0.0.1/a/b")
    assert not table.disconnect(3, "imap/10.0.0.1/a/b")
    assert not table.disconnect(1, "other")
    table.forget(1)
    assert table.look_up("imap/10.0.0.1/a/b") == 1
    assert table.disconnect(2, "imap/10.0.0.1/a/b")
    assert list(table.rows()) == []


def test_a_full_table_counts_no_newcomers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MAX_ENTRIES", 2)
    table = Counts()
    assert [table.connect(pid, "x") for pid in (1, 2, 3, 1)] == [True, True, False, True]
    table.forget(1)
    assert table.connect(3, "y")
