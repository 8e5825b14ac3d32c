"""The table of failures."""
from __future__ import annotations

from mailproxy.ipc.penalty import MAX_CHECKSUMS, MAX_IDENTS, Penalties


def test_an_attempt_that_was_seen_raises_nothing() -> None:
    table = Penalties(29)
    assert table.get("a", 100) == (0, 0)
    table.set("a", 5, 1, 100)
    table.set("a", 5, 2, 103)
    assert table.get("a", 104) == (1, 100)
    table.set("a", 6, 2, 105)
    table.set("a", 5, 3, 106)
    assert table.get("a", 107) == (2, 105)
    assert list(table.rows(107)) == [("a", 2, 105, 106)]


def test_only_the_last_attempts_are_remembered() -> None:
    table = Penalties()
    for checksum in range(1, MAX_CHECKSUMS + 2):
        table.set("a", checksum, checksum, 100)
    table.set("a", 2, 77, 101)
    assert table.get("a", 101)[0] == MAX_CHECKSUMS + 1
    table.set("a", 1, 77, 101)
    assert table.get("a", 101) == (77, 101)


def test_success_resets_and_leaves_the_memory() -> None:
    table = Penalties()
    table.set("a", 5, 3, 100)
    table.set("a", 0, 0, 101)
    assert table.get("a", 101) == (0, 101)
    table.set("a", 5, 1, 102)
    assert table.get("a", 102) == (0, 101)


def test_the_quiet_are_forgotten() -> None:
    table = Penalties(29)
    table.set("a", 1, 1, 100)
    table.set("b", 1, 1, 110)
    table.set("a", 2, 2, 120)
    assert [row[0] for row in table.rows(138)] == ["b", "a"]
    assert [row[0] for row in table.rows(139)] == ["a"]
    assert table.get("a", 149) == (0, 0)
    assert not table


def test_a_clock_that_was_set_back_forgets() -> None:
    table = Penalties(29)
    table.set("a", 1, 1, 1000)
    assert table.get("a", 100) == (0, 0)


def test_memory_is_bounded() -> None:
    table = Penalties()
    for number in range(MAX_IDENTS + 10):
        table.set(str(number), 1, 1, 100)
    assert sum(1 for _ in table.rows(100)) == MAX_IDENTS
    assert table.get("9", 100) == (0, 0)
    assert table.get("10", 100) == (1, 100)
    table.put("one more", 1, 100, 100)
    assert table.get("one more", 100) == (0, 0)


def test_what_another_table_knows_is_taken_over() -> None:
    table = Penalties(29)
    table.set("a", 1, 1, 100)
    table.put("a", 4, 99, 99)
    table.put("b", 3, 98, 99)
    assert table.get("a", 101) == (1, 100)
    assert table.get("b", 101) == (3, 98)
