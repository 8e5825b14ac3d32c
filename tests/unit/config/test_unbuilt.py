"""What a written setting without effect is told, and that the list of such settings is true."""
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.config import unbuilt
from mailproxy.config.schema import GROUPS, USED

PACKAGE = Path(config.__file__).parent.parent
DOCUMENT = PACKAGE.parent / "docs" / "settings.md"
#: Where a name does not mean that its value steers anything: declarations, checks of values.
PASSIVE = {"config"}
#: Only handed to programs of services.
PASSED_ON = {"log_debug"}


def read_somewhere() -> set[str]:
    """Every word of the sources that may steer something."""
    return {word for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in {*PASSIVE, "demo"}
            for word in re.findall(r"[a-z_]+", path.read_text())}


def resolved() -> set[str]:
    """Defaults of services, which become part of a Service."""
    return {name for name in USED if name.startswith("default_")} | {"listen"}


def test_the_lists_are_true() -> None:
    passive = unbuilt.SETTINGS | unbuilt.SILENT
    active = read_somewhere() | resolved()
    assert sorted(name for name in USED if name not in active | passive) == [], "nothing reads these"
    assert sorted(passive & active - PASSED_ON) == [], "these are read: take them off the list"
    assert sorted(passive - USED.keys()) == []


@pytest.mark.parametrize(("text", "told"), [
    ("login_access_sockets = tcpwrap", ["{path} line 1: login_access_sockets is not supported yet, it has no effect"]),
    ("login_access_sockets =", []),
    ("login_proxy_max_disconnect_delay = 0", []),
    ("protocol imap {{\n  ssl_crypto_device = x\n}}",
     ["{path} line 2: ssl_crypto_device is not supported yet, it has no effect"]),
    ("service imap-login {{\ninet_listener imap {{\nhaproxy = yes\n}}\n}}",
     []),
    ("mail_max_userip_connections = 3\nmail_location = maildir:~/Maildir", [])])
def test_who_writes_one_is_told(tmp_path: Path, text: str, told: list[str]) -> None:
    path = tmp_path / "conf"
    path.write_text(text.format() + "\nprotocols = imap\nssl = no\n")
    conf = config.load(str(path))
    assert conf.unbuilt == tuple(line.format(path=path) for line in told)
    assert not any("supported" in line for line in conf.warnings)


@pytest.mark.parametrize(("text", "expected"), [
    ("", False), ("service imap {\n}", False), ("service imap {\nunix_listener x {\n}\n}", False),
    ("service imap {\nclient_limit = 2\n}", True), ("service imap {\nunix_listener x {\nmode = 0600\n}\n}", True)])
def test_an_empty_section_is_not_written(load: Callable[[str], config.Config], text: str, expected: bool) -> None:
    assert load(text + "\nprotocols = imap\n").service_written("imap") is expected


def rows(heading: str) -> set[str]:
    part = DOCUMENT.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"`([a-z][a-z_0-9]+)`", "\n".join(line for line in part.splitlines() if line[:1] == "|")))


def test_the_document_lists_every_setting_that_has_an_effect() -> None:
    passive = unbuilt.SETTINGS | unbuilt.SILENT
    assert rows("With effect") == {row.name for group in GROUPS.values() for row in group} - passive
    assert rows("Not yet") == unbuilt.SETTINGS
