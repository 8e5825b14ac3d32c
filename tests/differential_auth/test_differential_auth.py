"""Every case gets the same answers from a real Dovecot and from us, or the other ones that it names."""
from __future__ import annotations

import pytest

from .case import Ask, Case, login
from .cases import GROUPS
from .harness import Group, compare, run

#: Fewer: some got lost.
LEAST = 120


@pytest.mark.parametrize("name", GROUPS)
def test_same_answers_as_dovecot(name: str) -> None:
    result = run(GROUPS[name])
    assert not result.differences, "\n".join(result.differences)
    assert result.answers >= result.cases


def test_there_are_enough_cases() -> None:
    assert sum(len(group.cases) for group in GROUPS.values()) >= LEAST
    for group in GROUPS.values():
        names = [case.name for case in group.cases]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(("their", "own", "ours", "equal"), [
    ("OK\tuser=a\tx\ty", "OK\tuser=a\ty\tx", {}, True), ("OK\tuser=a\t", "OK\tuser=a", {}, True),
    ("OK\tuser=a", "FAIL\tuser=a", {}, False), ("OK\tuser=a\tx\tx", "OK\tuser=a\tx", {}, False),
    ("OK\ta", "OK\tb", {"AUTH PLAIN /u/p": "OK\tb"}, True), ("OK\ta", "OK\ta", {"AUTH PLAIN /u/p": "OK\tb"}, False),
    ("OK\ta", "OK\tc", {"AUTH PLAIN /u/p": "OK\tb"}, False), ("OK\ta", "", {}, False)])
def test_the_comparison_compares(their: str, own: str, ours: dict[str, str], equal: bool) -> None:
    asks: list[Ask] = [login("u", "p")]
    group = Group("test", "", [Case("case", "", asks, ours=ours)])
    key = ("case", 0, "auth-client")
    assert (not compare(group, {key: their}, {key: own} if own else {}).differences) is equal
