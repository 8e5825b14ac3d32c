"""Command line of the harness, for looking at one scenario:

    python -m tests.parity --list
    python -m tests.parity [--side dovecot|mailproxy] [--group NAME] [--only NAME] [--dump NAME]

Without --side both run and are compared; exit status 1 if something differs.  --dump prints what each side did.
"""
from __future__ import annotations

import argparse
import sys
import time

from .cases import GROUPS
from .harness import GroupRun, Result, difference, run_groups, wanted
from .scenario import Group, Scenario
from .servers import DOVECOT, MAILPROXY, SIDES

_WIDTH = 95


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="names of all scenarios")
    parser.add_argument("--side", choices=SIDES, help="run one side only")
    parser.add_argument("--group", action="append", default=[], help="scenarios of this group")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this scenario")
    parser.add_argument("--dump", action="append", default=[], metavar="NAME", help="this scenario, with transcripts")
    options = parser.parse_args()
    if options.list:
        for group in GROUPS:
            for scenario in group.scenarios:
                print(f"{group.name:12} {scenario.name:32} {scenario.differs}".rstrip())
        return 0
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    only = frozenset([*options.only, *options.dump])
    known = {scenario.name for group in GROUPS for scenario in group.scenarios}
    if only - known:
        sys.exit(f"no such scenario: {' '.join(sorted(only - known))}")
    chosen = [group for group in GROUPS if (not options.group or group.name in options.group)
              and (not only or any(scenario.name in only for scenario in group.scenarios))]
    runs = {side: _play(chosen, side, only or None) for side in ([options.side] if options.side else SIDES)}
    wrong = 0
    for group in chosen:
        found = {side: run[group.name] for side, run in runs.items()}
        for side, run in found.items():
            if run.error:
                print(f"== {group.name}: {side}: {run.error}")
                wrong += 1
        for scenario in group.scenarios:
            wrong += _report(scenario, {side: run.results[scenario.name] for side, run in found.items()
                                        if scenario.name in run.results}, dump=scenario.name in options.dump)
    print(f"{wrong} problems")
    return 1 if wrong else 0


def _play(groups: list[Group], side: str, only: frozenset[str] | None) -> dict[str, GroupRun]:
    begin = time.monotonic()
    runs = run_groups(groups, side, only)
    played = sum(len(run.results) for run in runs.values())
    print(f"== {side}: {played} scenarios in {len(groups)} groups took {time.monotonic() - begin:.1f} s")
    return runs


def _report(scenario: Scenario, results: dict[str, Result], *, dump: bool) -> int:
    if dump:
        _dump(scenario, results)
    oracle, ours = results.get(DOVECOT), results.get(MAILPROXY)
    wrong = 0
    if oracle is not None and not scenario.dovecot_breaks:
        broken = [line for lines in (oracle.client, *oracle.backend) for line in lines if line.startswith("!")]
        wrong += bool(broken)
        if broken:
            print(f"-- {scenario.name}: Dovecot does not get through: {'; '.join(broken)}")
    if oracle is not None and ours is not None:
        client, backend, log = wanted(scenario, oracle)
        parts = [difference(client, ours.client), difference(backend, ours.backend_text()),
                 difference(log, ours.log) if scenario.log else ""]
        wrong += any(parts)
        if any(parts):
            print(f"-- {scenario.name} differs")
            print("\n".join(filter(None, parts)))
    return wrong


def _dump(scenario: Scenario, results: dict[str, Result]) -> None:
    print(f"=== {scenario.name}")
    columns = [[side.upper(), *result.client, "", *result.backend_text(), "", *result.log]
               for side, result in results.items()]
    if len(columns) < 2:
        print("\n".join(line for column in columns for line in column))
        return
    for row in range(max(map(len, columns))):
        left, right = (column[row] if row < len(column) else "" for column in columns)
        print(f"{left}\n{'':8}{right}" if len(left) > _WIDTH else f"{left:{_WIDTH}} | {right}")


if __name__ == "__main__":
    sys.exit(main())
