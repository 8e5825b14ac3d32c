"""A master in which every reload is a bug: `python failing_master.py -F CONFIG`."""
from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mailproxy.master import run, start
from tests.fakes import standin
from tests.fakes.run_master import TABLE


def broken(master: run.Master) -> None:
    raise ValueError("a secret")


if __name__ == "__main__":
    run.Master._reload = broken         # type: ignore[method-assign]
    sys.exit(start.run(sys.argv[-1], standin.load, foreground="-F" in sys.argv, table=TABLE))
