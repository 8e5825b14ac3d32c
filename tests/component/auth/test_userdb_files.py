"""userdb passwd and passwd-file: lookups and lists as a real Dovecot answers them."""
from __future__ import annotations

import pytest

from tests.component.auth.scenario import Passdb, Scenario
from tests.component.auth.test_sql import _both, _look_up

_USERS = ("joe@x:{PLAIN}pw:1000:1001:g:/home/joe:/bin/sh:a=1 userdb_mail=maildir:~/%d userdb_q=2\nbare:pw\n"
          "empty:pw::::::\nold:pw:1:1::/h:/sh::maildir:/x\nhalf:pw:5:6\nnouid:pw:::::\n")
_NAMES = ("daemon", "nosuch", "joe@x", "bare", "empty", "old", "half", "nouid")


@pytest.mark.parametrize("userdb", [
    Passdb("passwd"), Passdb("passwd", "blocking=no"), Passdb("passwd-file", "@DIR@/users"),
    Passdb("passwd-file", "username_format=%n @DIR@/users")], ids=lambda row: f"{row.driver} {row.args}")
def test_users_are_those_of_dovecot(userdb: Passdb) -> None:
    setup = Scenario([Passdb("passwd-file", "@DIR@/users")], {}, {"users": _USERS}, userdbs=[userdb])
    lines = [f"USER\t{number}\t{name}\tservice=x" for number, name in enumerate(_NAMES, 1)] + ["LIST\t99"]
    theirs, mine = _both(setup, lambda base: _look_up(base, lines))
    assert mine == theirs
