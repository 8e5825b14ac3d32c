"""Who is disconnected when, after a backend has gone."""
from __future__ import annotations

import pytest

from mailproxy.login import spread
from mailproxy.login.spread import Spread


def wave(count: int, longest: float, now: float = 100.0) -> list[float]:
    one = Spread()
    return [one.delay("10.0.0.1:143", now, longest, lambda: count) for _ in range(count)]


# the moments are those of Dovecot 2.3.19 (measured, D = 5 s), but for the random part of a step
@pytest.mark.parametrize(("count", "moments"), [
    (1, [0]), (4, [0, 2.5, 3.7, 5.0]), (7, [0, 0, 2.1, 2.8, 3.5, 4.2, 5.0]),
    (10, [0, 0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0])])
def test_as_dovecot_spreads(count: int, moments: list[float]) -> None:
    delays = wave(count, 5.0)
    for delay, moment in zip(delays, moments, strict=True):
        assert moment <= delay <= moment + spread.STEP + 1e-6
    assert [delay == 0 for delay in delays] == [moment == 0 for moment in moments]


def test_sessions_are_counted_once_a_wave() -> None:
    asked = []
    one = Spread()
    for _ in range(500):
        one.delay("a", 1.0, 2.0, lambda: asked.append(1) or 500)        # type: ignore[func-returns-value]
    assert len(asked) == 1
    one.delay("a", 10.0, 2.0, lambda: asked.append(1) or 500)           # type: ignore[func-returns-value]
    assert len(asked) == 2


def test_more_than_were_counted() -> None:
    one = Spread()
    delays = [one.delay("a", 1.0, 5.0, lambda: 2) for _ in range(50)]
    assert max(delays) <= 5.0 + spread.STEP


def test_backends_are_limited() -> None:
    one = Spread()
    for number in range(spread.BACKENDS_MAX):
        one.delay(str(number), 1.0, 5.0, lambda: 10)
    assert [one.delay("more", 1.0, 5.0, lambda: 10) for _ in range(9)] == [0] * 9
    assert one.delay("more", 9.0, 5.0, lambda: 1) == 0
    assert one.delay("more", 9.1, 5.0, lambda: 1) > 0
