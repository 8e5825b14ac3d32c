"""Each LMTP scenario under Dovecot and under mailproxy: same bytes to the client, same bytes to the backends, same log.

A side is played once whatever the number of pytest workers, as in tests.parity.
"""
from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.parity.harness import difference, wanted

from .cases import GROUPS
from .harness import DOVECOT, MAILPROXY, Result, run_groups
from .scenario import Group, Scenario

CASES = [pytest.param(group, scenario, id=scenario.name, marks=pytest.mark.xdist_group(f"lmtp-{group.name}"))
         for group in GROUPS for scenario in group.scenarios]
Play = Callable[[Group, str, str], Result]


@pytest.fixture(scope="session")
def play(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Play:
    """What a scenario did on a side.  The first call for a side plays all groups."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base
    loaded: dict[str, dict[str, Any]] = {}

    def result(group: Group, side: str, name: str) -> Result:
        if side not in loaded:
            loaded[side] = _stored(shared / f"parity-lmtp-{side}.json", side)
        stored = loaded[side][group.name]
        if stored["error"]:
            pytest.fail(stored["error"], pytrace=False)
        return Result(**stored["results"][name])

    return result


def _stored(path: Path, side: str) -> dict[str, Any]:
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            runs = run_groups(GROUPS, side)
            path.write_text(json.dumps({name: asdict(run) for name, run in runs.items()}))
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored


@pytest.mark.parametrize(("group", "scenario"), CASES)
def test_same(group: Group, scenario: Scenario, play: Play) -> None:
    oracle = play(group, DOVECOT, scenario.name)
    broken = [line for lines in (oracle.client, *oracle.backend) for line in lines if line.startswith("!")]
    assert not broken or scenario.dovecot_breaks, "\n".join([*oracle.client, *oracle.backend_text()])
    client, backend, log = wanted(scenario, oracle)         # type: ignore[arg-type]
    ours = play(group, MAILPROXY, scenario.name)
    found = [difference(client, ours.client), difference(backend, ours.backend_text()),
             difference(log, ours.log) if scenario.log else ""]
    if any(found):
        pytest.fail("\n".join(filter(None, found)), pytrace=False)


def test_names_are_unique() -> None:
    names = [scenario.name for group in GROUPS for scenario in group.scenarios]
    assert len(names) == len(set(names))
    assert len(names) >= 150


@pytest.mark.parametrize("name", sorted({s.differs for g in GROUPS for s in g.scenarios if s.differs}))
def test_difference_is_documented(name: str) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "differences.md").read_text("utf-8")
    documented = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")}
    assert name in documented, f"no row of docs/differences.md is named {name!r}"
