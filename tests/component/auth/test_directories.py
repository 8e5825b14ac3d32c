"""Every case of the directory drivers asked of our auth processes and of a real Dovecot: the same answers."""
from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.component.auth.directories import RedisServer, Slapd, redis_server, slapd
from tests.component.auth.directory_cases import CASES, VALUES, Case
from tests.component.auth.peer import Peer, plain, without_id
from tests.component.auth.processes import dovecot, ours

#: (case, user, password): answers that are ours on purpose.
OURS: dict[tuple[str, ...], str] = {
    # a constant field beside a pointer makes each of Dovecot's lookups fail
    ("ldap-static-pointer", "AUTH", "joe", "joepw"): "OK\tuser=joe\tgn=group of staff\tproxy",
    # a name is one word of the program's arguments, whatever is in it
    ("checkpassword", "AUTH", "j o;e", "pw"): "OK\tuser=j o;e\tfoo=bar baz\tbig=1\targs=a,j o;e",
    # that is not this user's file
    **{("pam", "PASS", user): "FAIL" for user in ("joe", "nobody")},        # Dovecot says why
    ("dict-fs", "AUTH", "joe/", "dpw"): "FAIL\tuser=joe/",
}
#: Cases in which all logins fail.
_NOBODY = frozenset(("ldap-bad-filter", "ldap-down", "ldap-starttls-untrusted", "dict-redis-down",
                     "checkpassword-missing", "passwd", "shadow", "ldap-all-attributes"))
_COUNT = itertools.count()
_PAM = """auth optional pam_echo.so Hello %u
auth [success=1 default=ignore] pam_exec.so quiet @DIR@/known
auth requisite pam_debug.so auth=user_unknown
auth requisite pam_exec.so quiet expose_authtok @DIR@/password
auth required pam_permit.so
account [success=1 default=ignore] pam_exec.so quiet @DIR@/current
account requisite pam_debug.so acct=acct_expired
account required pam_permit.so
session required pam_permit.so
"""
_PROGRAMS = {"known": '[ "$PAM_USER" != nobody ]', "password": '[ "$(tr -d \'\\0\')" = pw ]',
             "current": '[ "$PAM_USER" != exp ]'}


@pytest.fixture(scope="module")
def directory() -> Iterator[Slapd]:
    with slapd() as server:
        yield server


@pytest.fixture(scope="module")
def values() -> Iterator[tuple[RedisServer, Path]]:
    """A redis-server, and a directory and a file with the same keys."""
    with redis_server() as server:
        store = server.directory / "store"
        lines = []
        for key, value in VALUES.items():
            server.client.set(key, value)
            path = store / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value, encoding="utf-8")
            lines += [f"shared/{key}", value]
        Path(f"{store}.file").write_text("\n".join(lines) + "\n", encoding="utf-8")
        server.client.select(1)
        for key, value in VALUES.items():
            server.client.execute_command("SET", f"pre/{key}", value)
        server.client.select(0)
        yield server, store


@pytest.fixture(scope="module")
def pam_service() -> Iterator[str]:
    name = f"mailproxy-test-{os.getpid()}-{next(_COUNT)}"
    with tempfile.TemporaryDirectory(prefix="mailproxy-pam-") as programs:
        os.chmod(programs, 0o755)
        for program, text in _PROGRAMS.items():
            path = Path(programs, program)
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        service = Path("/etc/pam.d", name)
        service.write_text(_PAM.replace("@DIR@", programs))
        try:
            yield name
        finally:
            service.unlink()


def _ask(base: Path, case: Case) -> dict[tuple[str, ...], str]:
    answers: dict[tuple[str, ...], str] = {}
    peer = Peer(str(base / "auth-client"))
    for number, (user, password, *params) in enumerate(case.logins, 1):
        peer.send("\t".join(("AUTH", str(number), "PLAIN", "service=imap", "no-penalty", *params,
                             f"resp={plain(user, password)}")))
    for _ in case.logins:
        line = peer.line()
        user, password = case.logins[int(line.split("\t")[1]) - 1][:2]
        answers["AUTH", user, password] = without_id(line)
    peer.close()
    peer = Peer(str(base / "auth-userdb"), handshake=False)
    peer.send("VERSION\t1\t1")
    hello = [peer.line(), peer.line()]
    assert hello[0] == "VERSION\t1\t1", hello
    for number, (word, name) in enumerate(itertools.product(("PASS", "USER"), case.names), 1):
        peer.send(f"{word}\t{number}\t{name}\tservice=lmtp")
        answers[word, name] = without_id(peer.line())
    if case.lists:
        peer.send("LIST\t99\tuser=*\tservice=doveadm")
        names = []
        while not (line := peer.line()).startswith("DONE"):
            names.append(line.split("\t")[2])
        answers["LIST", ""] = ",".join(sorted(names)) + line
    peer.close()
    return answers


def _words(line: str) -> list[str]:
    word, *fields = line.split("\t")
    return [word, *sorted(field for field in fields if field)]


@pytest.mark.parametrize("name", CASES)
def test_same_answers(name: str, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    scenario = case.scenario
    places = {}
    if "ldap" in name:
        server: Slapd = request.getfixturevalue("directory")
        places = {"LDAP": server.uri, "LDAPS": server.secure, "CA": str(server.ca), "LDAPPORT": str(server.port)}
    elif "dict" in name:
        redis, store = request.getfixturevalue("values")
        places = {"REDIS": str(redis.port), "REDISSOCKET": redis.socket, "STORE": str(store)}
    elif "pam" in name:
        places = {"PAM": request.getfixturevalue("pam_service")}

    def placed(text: str) -> str:
        for word, value in places.items():
            text = text.replace(f"@{word}@", value)
        return text
    scenario = replace(scenario, files={key: placed(text) for key, text in scenario.files.items()},
                       passdbs=[replace(each, args=placed(each.args)) for each in scenario.passdbs],
                       userdbs=[replace(each, args=placed(each.args)) for each in scenario.userdbs])
    answers = []
    for start in (dovecot, ours):
        with tempfile.TemporaryDirectory(prefix="mailproxy-auth-") as place, start(scenario, Path(place)):
            answers.append({key: text.replace(place, "@DIR@") for key, text
                            in _ask(Path(place) / "run", case).items()})
    theirs, mine = answers
    assert name in _NOBODY or any(line.startswith("OK") for line in mine.values()), "nobody can log in"
    wrong = [(key, line, mine[key]) for key, line in theirs.items()
             if _words(mine[key]) != _words(OURS.get((name, *key), line))]
    assert not wrong, "\n" + "\n".join(f"{key}\n  Dovecot {line!r}\n  ours    {our!r}" for key, line, our in wrong)
