#!/usr/bin/env python3
"""Entry of a checkout: `python master.py -F -c FILE` is the installed command `mailproxy -F -c FILE`."""
from __future__ import annotations

import sys

from mailproxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
