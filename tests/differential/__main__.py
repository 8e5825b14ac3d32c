"""Compare configurations with the real doveconf:

    python -m tests.differential [--corpus DIRECTORY] [LIST...]

Prints "N of N equal" for each list and every difference; those on purpose with their reason.  Exit status 1: something
differs without one.
"""
from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import sources
from .harness import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, help=f"directory of foreign configurations ({sources.CORPUS})")
    parser.add_argument("lists", nargs="*", metavar="LIST", help=f"of {', '.join(sources.LISTS)}; default: all")
    options = parser.parse_args()
    if options.corpus:
        sources.CORPUS = options.corpus
    unknown = set(options.lists) - set(sources.LISTS)
    if unknown:
        parser.error(f"no such list: {' '.join(sorted(unknown))}")
    wrong = 0
    for name in options.lists or sources.LISTS:
        with tempfile.TemporaryDirectory(prefix="mp-diff-") as directory:
            result = run(sources.LISTS[name], Path(directory))
        print(f"{name}: {result.summary}")
        for case, lines, reason in result.differences:
            print(f"- {case}{f': on purpose: {reason}' if reason else ''}", *lines, sep="\n    ")
        wrong += result.unexplained
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
