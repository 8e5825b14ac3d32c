"""Every case asked of our auth process and of a real Dovecot; the answers must be equal field by field.

Empty fields are ignored: Dovecot writes one when all fields of a reply are hidden, we do not.
"""
from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.component.auth.cases import CASES, OURS, SEQUENTIAL, Login
from tests.component.auth.peer import Peer, plain, without_id
from tests.component.auth.processes import DOVECOT, dovecot, ours

_SOCKETS = ("auth-client", "login/login")


def _line(number: int, login: Login) -> str:
    user, password, *params = login
    authzid = ""
    if params and params[0].startswith("authzid="):
        authzid = params.pop(0)[8:]
    return "\t".join(("AUTH", str(number), "PLAIN", "service=imap", "no-penalty", *params,
                      f"resp={plain(user, password, authzid)}"))


def _ask(base: Path, logins: list[Login], sequential: bool) -> dict[tuple[str, int], str]:
    answers = {}
    for name in _SOCKETS:
        peer = Peer(str(base / name))
        lines = [_line(number, login) for number, login in enumerate(logins, 1)]
        got = []
        for group in ([[line] for line in lines] if sequential else [lines]):
            peer.send(*group)
            got += [peer.line() for _ in group]
        for line in got:
            answers[name, int(line.split("\t")[1])] = without_id(line)
        peer.close()
    return answers


def _words(line: str) -> list[str]:
    return [word for word in line.split("\t") if word]


def test_dovecot_is_there() -> None:
    assert Path(DOVECOT).exists(), "these tests compare with a real Dovecot"


@pytest.mark.parametrize("case", CASES)
def test_same_answers(case: str) -> None:
    scenario, logins = CASES[case]
    answers = []
    for start in (dovecot, ours):
        # not below pytest's own directory: Dovecot's unprivileged user cannot get there
        with tempfile.TemporaryDirectory(prefix="mailproxy-auth-") as directory, start(scenario, Path(directory)):
            answers.append(_ask(Path(directory) / "run", logins, case in SEQUENTIAL))
    theirs, mine = answers
    assert len(mine) == len(logins) * len(_SOCKETS)
    for (socket_name, number), line in theirs.items():
        login = logins[number - 1]
        expected = OURS.get((case, socket_name, login[0], login[1]), line)
        assert _words(mine[socket_name, number]) == _words(expected), (socket_name, login)
