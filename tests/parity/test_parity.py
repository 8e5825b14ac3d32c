"""Each scenario under Dovecot and under mailproxy: same bytes to the client, same bytes to the backend, same log.

A side is played once whatever the number of pytest workers: the first that needs it plays it under a lock and leaves
the results in the run's shared directory for the others.
"""
from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from .cases import GROUPS
from .harness import Result, difference, run_groups, wanted
from .scenario import Group, Scenario
from .servers import DOVECOT, MAILPROXY, REPOSITORY


def _cases(chosen: Callable[[Scenario], object]) -> list[ParameterSet]:
    return [pytest.param(group, scenario, id=scenario.name, marks=pytest.mark.xdist_group(group.name))
            for group in GROUPS for scenario in group.scenarios if chosen(scenario)]


CASES = _cases(lambda scenario: True)
DIFFERENT = _cases(lambda scenario: scenario.differs)
LOGGED = _cases(lambda scenario: scenario.log)
Play = Callable[[Group, str, str], Result]


@pytest.fixture(scope="session")
def play(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Play:
    """What a scenario did on a side.  The first call for a side plays all groups that this run has tests of."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base
    wanted_groups = [item.callspec.params.get("group") for item in request.session.items
                     if hasattr(item, "callspec")]
    needed = [group for group in GROUPS if group in wanted_groups]
    loaded: dict[str, dict[str, Any]] = {}

    def result(group: Group, side: str, name: str) -> Result:
        if side not in loaded:
            loaded[side] = _stored(shared / f"parity-{side}.json", needed, side)
        stored = loaded[side][group.name]
        if stored["error"]:
            pytest.fail(stored["error"], pytrace=False)
        return Result(**stored["results"][name])

    return result


def _stored(path: Path, groups: list[Group], side: str) -> dict[str, Any]:
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            runs = run_groups(groups, side)
            path.write_text(json.dumps({name: asdict(run) for name, run in runs.items()}))
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored


@pytest.mark.parametrize(("group", "scenario"), CASES)
def test_oracle(group: Group, scenario: Scenario, play: Play) -> None:
    """The scenario itself is sound: Dovecot answers each step of it."""
    oracle = play(group, DOVECOT, scenario.name)
    broken = [line for lines in (oracle.client, *oracle.backend) for line in lines if line.startswith("!")]
    assert not broken or scenario.dovecot_breaks, "\n".join([*oracle.client, *oracle.backend_text()])


@pytest.mark.parametrize(("group", "scenario"), CASES)
def test_wire(group: Group, scenario: Scenario, play: Play) -> None:
    client, backend, _ = wanted(scenario, play(group, DOVECOT, scenario.name))
    ours = play(group, MAILPROXY, scenario.name)
    found = [difference(client, ours.client), difference(backend, ours.backend_text())]
    if any(found):
        pytest.fail("\n".join(filter(None, found)), pytrace=False)


@pytest.mark.parametrize(("group", "scenario"), LOGGED)
def test_log(group: Group, scenario: Scenario, play: Play) -> None:
    _, _, log = wanted(scenario, play(group, DOVECOT, scenario.name))
    if text := difference(log, play(group, MAILPROXY, scenario.name).log):
        pytest.fail(text, pytrace=False)


def test_names_are_unique() -> None:
    names = [scenario.name for group in GROUPS for scenario in group.scenarios]
    assert len(names) == len(set(names))
    assert len(names) >= 75


@pytest.mark.parametrize(("group", "scenario"), DIFFERENT)
def test_difference_is_real(group: Group, scenario: Scenario, play: Play) -> None:
    """What a scenario that differs wants of mailproxy is not what Dovecot does: else the exception is stale."""
    oracle = play(group, DOVECOT, scenario.name)
    log = oracle.log if scenario.log else wanted(scenario, oracle)[2]
    assert wanted(scenario, oracle) != (oracle.client, oracle.backend_text(), log)


@pytest.mark.parametrize("name", sorted({s.differs for g in GROUPS for s in g.scenarios if s.differs}))
def test_difference_is_documented(name: str) -> None:
    text = (REPOSITORY / "docs" / "differences.md").read_text("utf-8")
    documented = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")}
    assert name in documented, f"no row of docs/differences.md is named {name!r}"
