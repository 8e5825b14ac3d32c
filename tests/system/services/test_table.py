"""The rows of the table that show the most; `python -m tests.system.services` makes all of them."""
from __future__ import annotations

import pytest

from tests.system.services import table


@pytest.mark.parametrize("row", list(table.grid(small=True)), ids=str)
def test_a_service_does_what_dovecots_does(row: table.Row) -> None:
    short = table.Row(row.service_count, row.process_min_avail, row.process_limit, row.client_limit, row.at_once,
                      min(row.connections, 40))
    real, ours = table.run(short, "dovecot"), table.run(short, "mailproxy")
    assert table.differences(short, real, ours) == [], f"dovecot: {real}; mailproxy: {ours}"
