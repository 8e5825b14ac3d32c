"""python -m tests.parity_lmtp [--side dovecot|mailproxy] [--group NAME] [--only NAME] [--dump NAME] [--list]"""
from __future__ import annotations

import argparse
import sys

from tests.parity.harness import difference, wanted

from .cases import GROUPS
from .harness import DOVECOT, MAILPROXY, SIDES, Result, run_groups


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity_lmtp")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--dump", action="append", default=[])
    options = parser.parse_args()
    if options.list:
        for group in GROUPS:
            for scenario in group.scenarios:
                print(f"{group.name:12} {scenario.name:32} {scenario.differs}".rstrip())
        return 0
    only = frozenset([*options.only, *options.dump])
    chosen = [group for group in GROUPS if (not options.group or group.name in options.group)
              and (not only or any(scenario.name in only for scenario in group.scenarios))]
    runs = {side: run_groups(chosen, side, only or None) for side in ([options.side] if options.side else SIDES)}
    wrong = 0
    for group in chosen:
        found = {side: run[group.name] for side, run in runs.items()}
        for side, run in found.items():
            if run.error:
                print(f"== {group.name}: {side}: {run.error}")
                wrong += 1
        for scenario in group.scenarios:
            results = {side: run.results[scenario.name] for side, run in found.items() if scenario.name in run.results}
            if scenario.name in options.dump:
                _dump(scenario.name, results)
            oracle, ours = results.get(DOVECOT), results.get(MAILPROXY)
            if oracle is not None and not scenario.dovecot_breaks:
                broken = [line for lines in (oracle.client, *oracle.backend) for line in lines if line.startswith("!")]
                wrong += bool(broken)
                if broken:
                    print(f"-- {scenario.name}: Dovecot does not get through: {'; '.join(broken)}")
            if oracle is not None and ours is not None:
                client, backend, log = wanted(scenario, oracle)  # type: ignore[arg-type]
                parts = [difference(client, ours.client), difference(backend, ours.backend_text()),
                         difference(log, ours.log) if scenario.log else ""]
                wrong += any(parts)
                if any(parts):
                    print(f"-- {scenario.name} differs")
                    print("\n".join(filter(None, parts)))
    print(f"{wrong} problems")
    return 1 if wrong else 0


def _dump(name: str, results: dict[str, Result]) -> None:
    for side, result in results.items():
        print(f"=== {name} {side}")
        print("\n".join([*result.client, "", *result.backend_text(), "", *result.log]))


if __name__ == "__main__":
    sys.exit(main())
