"""Start a real master on the stand-in configuration with fake roles: `python run_master.py [-F] CONFIG`."""
from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mailproxy.master import start
from tests.fakes import standin

TABLE = {"log": "mailproxy.log.process", "echo": "tests.fakes.echo_role", "failing": "tests.fakes.failing_role"}

if __name__ == "__main__":
    sys.exit(start.run(sys.argv[-1], standin.load, foreground="-F" in sys.argv, table=TABLE))
