"""What a worker remembers of backends, and which source addresses it takes."""
from __future__ import annotations

from mailproxy.login import backends
from mailproxy.login.backends import Backends, State
from mailproxy.login.setup import Sources


def test_one_state_for_each_address() -> None:
    known = Backends()
    assert known.get("10.0.0.1", 143, 5.0) is known.get("10.0.0.1", 143, 9.0)
    assert known.get("10.0.0.1", 143, 5.0) is not known.get("10.0.0.1", 993, 5.0)


def test_down_needs_a_failure_long_after_the_last_success_and_someone_who_tries() -> None:
    state = State(100.0)
    assert not state.is_down(30)
    state.failed = 129.5                        # 30.5 s after the success that the first use pretends
    assert not state.is_down(30)
    state.connecting = 1
    assert state.is_down(30)
    assert not state.is_down(31)
    assert not state.is_down(0)
    state.succeeded = 100.0
    assert not state.is_down(30)


def test_table_is_bounded_and_keeps_those_in_use() -> None:
    known = Backends()
    used = known.get("busy", 143, 0.0)
    used.connecting = 1
    for number in range(backends.MAX_KNOWN + 10):
        known.get(f"host{number}", 143, 0.0)
        assert len(known._known) <= backends.MAX_KNOWN
    assert known.get("busy", 143, 0.0) is used


def test_no_source_addresses() -> None:
    for setting in ("", " ", "?"):
        assert Sources(setting).take() is None


def test_sources_are_taken_in_turn() -> None:
    turn = Sources("127.0.0.1, 127.0.0.2 127.0.0.3")
    taken = [turn.take() for _ in range(6)]
    assert taken[:3] == taken[3:]
    assert sorted(map(str, taken[:3])) == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


def test_question_mark_leaves_out_what_cannot_be_bound() -> None:
    turn = Sources("?127.0.0.1 203.0.113.1")
    assert {turn.take() for _ in range(4)} == {"127.0.0.1"}
    turn = Sources("127.0.0.1 203.0.113.1")
    assert len({turn.take() for _ in range(4)}) == 2


def test_name_that_does_not_resolve_is_logged() -> None:
    turn = Sources("127.0.0.1 nobody.invalid")
    assert turn.take() == "127.0.0.1"
    assert ["nobody.invalid" in error for error in turn.errors] == [True]


def test_each_process_starts_somewhere_else() -> None:
    setting = " ".join(f"127.0.1.{number}" for number in range(1, 201))
    assert len({Sources(setting).take() for _ in range(10)}) > 1
