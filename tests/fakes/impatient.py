"""mailproxy with a login timeout of two seconds instead of three minutes: `python impatient.py -F -c CONFIG`."""
from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mailproxy import config
from mailproxy.login import session
from mailproxy.master import start

if __name__ == "__main__":
    session.LOGIN_TIMEOUT = 2.0
    sys.exit(start.run(sys.argv[-1], config.load, foreground=True))
