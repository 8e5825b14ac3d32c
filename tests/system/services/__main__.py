"""`python -m tests.system.services [--small]`: the table of services under load, Dovecot's row above ours."""
from __future__ import annotations

import sys
import time

from tests.system.services import table


def main() -> int:
    unequal = 0
    rows = list(table.grid(small="--small" in sys.argv))
    for row in rows:
        began = time.monotonic()
        real = table.run(row, "dovecot")
        between = time.monotonic()
        ours = table.run(row, "mailproxy")
        print(f"{row}\n    dovecot    {between - began:5.1f} s  {real}\n"
              f"    mailproxy  {time.monotonic() - between:5.1f} s  {ours}", flush=True)
        for text in table.differences(row, real, ours):
            unequal += 1
            print(f"    DIFFERS: {text}")
    print(f"{len(rows)} rows, {unequal} differences")
    return 1 if unequal else 0


if __name__ == "__main__":
    sys.exit(main())
