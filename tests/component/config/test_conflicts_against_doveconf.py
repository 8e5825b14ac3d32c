"""Two filters that set the same key: `doveconf -f` fails where a login would, we fail when the files are loaded."""
from __future__ import annotations

import itertools
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest

from mailproxy.config.filters import Filter
from mailproxy.config.loader import examine

BLOCKS = ("protocol imap", "protocol !pop3", "local 10.0.0.0/8", "local 10.1.0.0/16", "local 0.0.0.0/0",
          "remote 10.2.0.0/16", "remote ::/0", "local_name a.b", 'local_name "*.b c.d"',
          "local 10.1.0.0/16+remote 10.0.0.0/8", "local 10.0.0.0/8+protocol imap", "local_name a.b+protocol imap",
          "local 10.1.0.0/16+local_name *.b+remote 10.0.0.0/8+protocol imap")
#: A key of each type of value, and one that an address filter may not set.
KEYS = {"login_greeting": "x", "ssl": "required", "login_proxy_max_reconnects": "7", "login_proxy_timeout": "7 secs",
        "verbose_ssl": "yes", "imap_max_line_length": "7 k"}


class Client(NamedTuple):
    protocol: str
    local: str
    remote: str
    name: str

    def matches(self, row: Filter) -> bool:
        return row.matches(self.protocol, ip_address(self.local), ip_address(self.remote), self.name)

    def arguments(self) -> list[str]:
        pairs = (("service", self.protocol), ("local", self.local), ("remote", self.remote), ("lname", self.name))
        return [word for key, value in pairs if value for word in ("-f", f"{key}={value}")]


CLIENTS = [Client(*row) for row in (
    ("imap", "10.1.0.1", "10.2.0.1", "a.b"), ("imap", "10.1.0.1", "10.2.0.1", "c.d"), ("imap", "::1", "::1", "a.b"),
    ("imap", "::1", "::1", "c.d"))]


def block(head: str, key: str, value: str) -> str:
    heads = head.split("+")
    return "".join(f"{one} {{\n" for one in heads) + f"{key} = {value}\n" + "}\n" * len(heads)


def setting_filters(path: Path) -> list[Filter]:
    conf, _ = examine(str(path))
    assert conf is not None
    return [scope.filter for scope in conf.scopes if scope.node.settings]


def real_conflict(path: Path, key: str, filters: list[Filter]) -> bool | None:
    """None: no client of ours matches both."""
    answers = []
    for client in CLIENTS:
        if all(client.matches(row) for row in filters):
            run = subprocess.run(["/usr/bin/doveconf", "-c", str(path), *client.arguments(), key],
                                 capture_output=True, text=True, timeout=20, check=False)
            answers.append("Conflict in setting" in run.stderr)
    return any(answers) if answers else None


def refines(one: str, two: str) -> bool:
    """Has one all conditions of the other?  Only inside the other's own block the real one sees that; elsewhere it
    fails at a login, and we take the stronger one."""
    conditions = [set(head.replace("!pop3", "imap").split("+")) for head in (one, two)]
    deep = BLOCKS[-1]
    return conditions[0] < conditions[1] or conditions[1] < conditions[0] or deep in (one, two)


def compare(path: Path, first: str, second: str, key: str) -> str:
    value = KEYS[key]
    path.write_text("protocols = imap pop3\n" + block(first, key, value) + block(second, key, value))
    _, problems = examine(str(path))
    ours = any("Conflict in setting" in problem.text for problem in problems)
    real = real_conflict(path, key, setting_filters(path))
    if real is None or real == ours or (real and refines(first, second)):
        return ""
    return f"{first} | {second}: real {real}, ours {ours}"


def test_same_conflicts(tmp_path: Path) -> None:
    found = [compare(tmp_path / "two.conf", first, second, "login_greeting") for first, second in
             itertools.permutations(BLOCKS, 2)]
    assert [text for text in found if text] == []


@pytest.mark.parametrize("key", KEYS)
def test_whatever_the_type(key: str, tmp_path: Path) -> None:
    assert compare(tmp_path / "two.conf", "local 10.0.0.0/8", "protocol imap", key) == ""
    assert compare(tmp_path / "two.conf", "local 10.0.0.0/8", "local 10.0.0.0/8+protocol imap", key) == ""
