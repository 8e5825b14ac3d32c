"""A warning before a limit is reached, and not over and over."""
from __future__ import annotations

import pytest

from mailproxy.log.pipe import WARNING
from mailproxy.master.usage import Usage

from .test_service import World


def warnings(usage: Usage, *levels: int, pace: float = 100.0) -> list[int]:
    """The levels at which it warned, one level each `pace` seconds."""
    found, now = [], 0.0
    for level in levels:
        now += pace
        if usage.change(level - usage.used, now):
            found.append(level)
    return found


@pytest.mark.parametrize(("capacity", "first"), [(5, 4), (6, 5), (10, 8), (100, 80), (99, 80), (100_000, 80_000)])
def test_it_warns_at_four_fifths(capacity: int, first: int) -> None:
    assert warnings(Usage(capacity), *range(1, min(first + 3, capacity + 1))) == [first]


@pytest.mark.parametrize("capacity", [1, 2, 4])
def test_small_limits_are_reached_without_a_word(capacity: int) -> None:
    assert warnings(Usage(capacity), *range(capacity + 1)) == []


def test_it_warns_again_only_after_a_calm_time() -> None:
    assert warnings(Usage(100), 80, 79, 80, 100, 61, 85) == [80]
    assert warnings(Usage(100), 80, 60, 80) == [80, 80]


def test_a_swinging_load_is_not_told_each_time() -> None:
    assert warnings(Usage(100), *[80, 10] * 30, pace=1.0) == [80]
    assert warnings(Usage(100), *[80, 10] * 90, pace=1.0) == [80, 80, 80]


@pytest.mark.parametrize(("rules", "limit", "capacity"), [
    ({"process_limit": 10, "service_count": 1}, "process_limit (10)", 10),
    ({"process_limit": 1, "client_limit": 10}, "client_limit (10)", 10),
    ({"process_limit": 2, "client_limit": 5}, "process_limit (2)", 10)])
def test_a_service_warns_once(rules: dict[str, int], limit: str, capacity: int) -> None:
    world = World(**rules)
    policy = world.policy
    per_process = rules.get("client_limit", 1)
    policy.start()
    for _ in range(rules["process_limit"]):
        policy.connection_waiting()
        for left in range(per_process - 1, -1, -1):
            world.status(world.forked[-1], left)
    line = f"service(imap-login): 8 of {capacity} connections in use, {limit} will be reached soon"
    assert world.lines.count((WARNING, line)) == 1
    assert policy.busy() == capacity
    for pid in tuple(policy.processes):
        policy.exited(pid, 0, 0)
    assert policy.busy() == 0
