"""Compare the auth service with a real Dovecot's:

    python -m tests.differential_auth [GROUP ...] [--list]

Prints "N of N cases equal" for each group and every difference.  Exit status 1: something differs without a reason.
"""
from __future__ import annotations

import argparse
import sys

from .cases import GROUPS
from .harness import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential_auth",
                                     description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="names of cases; nothing is run")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; default: all")
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no such group: {' '.join(sorted(unknown))}")
    cases = equal = 0
    for name in options.groups or GROUPS:
        if options.list:
            print(f"{name}:", *(case.name for case in GROUPS[name].cases))
            continue
        result = run(GROUPS[name])
        print(f"{name}: {result.summary}", *result.differences, sep="\n")
        cases += result.cases
        equal += result.cases - len(result.wrong)
    if not options.list:
        print(f"{equal} of {cases} cases equal")
    return 0 if equal == cases else 1


if __name__ == "__main__":
    sys.exit(main())
