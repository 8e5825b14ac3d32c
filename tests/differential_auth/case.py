"""What is compared: one set of databases and the requests made of them.

A Case becomes a `protocol` block, which for the auth service is a set of databases and settings of its own; only its
requests (with service=NAME) see them.  So one server answers for all cases of a group.
"""
from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import NamedTuple


class Ask(NamedTuple):
    """One request.  `kind`: AUTH, PASS, USER or LIST; `later`: bytes of the client for the CONTs that may come."""

    kind: str
    user: str = ""
    params: tuple[str, ...] = ()
    mech: str = ""
    initial: bytes | None = None
    later: tuple[bytes, ...] = ()

    @property
    def label(self) -> str:
        shown = self.initial.decode("utf-8", "replace").replace("\0", "/") if self.initial is not None else ""
        return " ".join(filter(None, (self.kind, self.mech, self.user, shown, *self.params)))


def login(user: str, password: str, *params: str, authzid: str = "", mech: str = "PLAIN") -> Ask:
    names = [word.encode("utf-8", "surrogateescape") for word in (authzid, user, password)]
    if mech == "LOGIN":
        return Ask("AUTH", mech=mech, params=params, later=(names[1], names[2]))
    return Ask("AUTH", mech=mech, params=params, initial=b"\0".join(names))


def pass_(user: str, *params: str) -> Ask:
    return Ask("PASS", user, params)


def user(name: str, *params: str) -> Ask:
    return Ask("USER", name, params)


LIST = Ask("LIST")


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Case:
    """`conf`: what stands in the protocol block; @case@ is the case's own directory.  `files`: name -> content in it.
    `sqlite`: script that makes users.db there.  `ours`: label of a request (and socket) -> our answer, where it differs
    on purpose, with the reason in `why`."""

    name: str
    conf: str
    asks: list[Ask]
    files: dict[str, str] = field(default_factory=dict)
    sqlite: str = ""
    ours: dict[str, str] = field(default_factory=dict)
    why: str = ""


def section(kind: str, driver: str, args: str = "", **settings: object) -> str:
    lines = [f"{kind} {{", f"  driver = {driver}", f"  args = {args}"]
    lines += [f"  {name.rstrip('_')} = {value}" for name, value in settings.items()]
    return "\n".join([*lines, "}"]) + "\n"


def passdb(driver: str, args: str = "", **settings: object) -> str:
    return section("passdb", driver, args, **settings)


def userdb(driver: str, args: str = "", **settings: object) -> str:
    return section("userdb", driver, args, **settings)
