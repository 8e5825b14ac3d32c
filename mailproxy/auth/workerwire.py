"""Lines between auth and its workers.

    S: VERSION⇥auth-worker⇥1⇥0                      the worker speaks first, neither side waits
    C: VERSION⇥auth-worker⇥1⇥0   DBHASH⇥<hex>       another hash: the worker closes
    C: <id>⇥PASSV⇥<section>⇥<check 0|1>⇥<password>[⇥name=value…]
    S: <id>⇥<outcome>⇥<verdict 1|0|>⇥<complaint>⇥<error>⇥<note>⇥<=password or nothing>[⇥name=value…]
    C: <id>⇥PASSW⇥<password>⇥<stored>⇥<user>       S: <id>⇥<1|0|>⇥<complaint>
    C: <id>⇥MAKE⇥<stored>⇥<scheme>⇥<user>⇥<salt>   S: <id>⇥1⇥<data>  or  <id>⇥0⇥<complaint>
    C: <id>⇥POLICY⇥<allow|report>⇥<body>           S: <id>⇥<status>⇥<message>⇥<error>
    C: <id>⇥SETCRED⇥<section>⇥<stored>[⇥name=value…]   S: <id>⇥<complaint or nothing>
    C: <id>⇥USER⇥<section>[⇥name=value…]            S: as for PASSV
    C: <id>⇥LIST⇥<section>[⇥name=value…]            S: <id>⇥*⇥<user>…  then  <id>⇥<1|0>⇥<complaint>
                                                    S: RESTART  the next answer is the last one

One request at a time on a connection.  Every value is escaped.  Sans-IO.
"""
from __future__ import annotations

from mailproxy.auth.passdb.driver import Answer
from mailproxy.errors import ProtocolError
from mailproxy.ipc.authwire import escape, unescape

#: Sent before an answer: the connection ends behind that.
RESTART = "RESTART"
#: -1: refuse; 0: go on; more: after so many seconds.
POLICY_STATUSES = frozenset(map(str, range(-1, 151)))
HELLO = "VERSION\tauth-worker\t1\t0"
#: Longest line either way: a query's row, not a mailbox.
MAX_LINE = 65536


def lookup(number: int, section: int, check: bool, password: str, values: dict[str, str]) -> str:
    fields = [str(number), "PASSV", str(section), "1" if check else "0", escape(password)]
    fields += [f"{escape(key)}={escape(value)}" for key, value in values.items()]
    return "\t".join(fields)


def verify(number: int, password: str, stored: str, user: str) -> str:
    return "\t".join((str(number), "PASSW", escape(password), escape(stored), escape(user)))


def user(number: int, section: int, values: dict[str, str]) -> str:
    return _asking(number, "USER", section, values)


def users(number: int, section: int, values: dict[str, str]) -> str:
    return _asking(number, "LIST", section, values)


def _asking(number: int, command: str, section: int, values: dict[str, str]) -> str:
    fields = [str(number), command, str(section)]
    fields += [f"{escape(key)}={escape(value)}" for key, value in values.items()]
    return "\t".join(fields)


def make(number: int, stored: str, scheme: str, user: str, salt: bytes) -> str:
    return "\t".join((str(number), "MAKE", escape(stored), scheme, escape(user), salt.hex()))


def replace(number: int, section: int, stored: str, values: dict[str, str]) -> str:
    fields = [str(number), "SETCRED", str(section), escape(stored)]
    fields += [f"{escape(key)}={escape(value)}" for key, value in values.items()]
    return "\t".join(fields)


def policy(number: int, command: str, body: str) -> str:
    return f"{number}\tPOLICY\t{command}\t{escape(body)}"


def answer_line(number: str, answer: Answer) -> str:
    verdict = "" if answer.verdict is None else "1" if answer.verdict else "0"
    password = "" if answer.password is None else "=" + answer.password
    fields = [number, str(answer.result), verdict, escape(answer.complaint), escape(answer.error),
              escape(answer.note), escape(password)]
    fields += [f"{escape(key)}={escape(value)}" for key, value in answer.fields]
    return "\t".join(fields)


def parse_answer(fields: list[str]) -> Answer:
    """Behind the id.  ProtocolError for what cannot be an answer."""
    try:
        result = int(fields[0])
        verdict, complaint, error, note, password = (unescape(field) for field in fields[1:6])
    except (ValueError, IndexError):
        raise ProtocolError("sent a broken answer") from None
    answer = Answer(result, password[1:] if password else None, error=error, note=note)
    answer.verdict = {"1": True, "0": False}.get(verdict)
    answer.complaint = complaint
    for field in fields[6:]:
        key, _, value = field.partition("=")
        answer.fields.append((unescape(key), unescape(value)))
    return answer


def pairs(fields: list[str]) -> dict[str, str]:
    values = {}
    for field in fields:
        key, _, value = field.partition("=")
        values[unescape(key)] = unescape(value)
    return values
