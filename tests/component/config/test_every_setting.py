"""Every setting of the real thing, one by one: what it refuses we refuse in the same words, what it takes we take."""
from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.config.schema import ROOT
from mailproxy.config.schema.define import FREE, SectionType
from mailproxy.errors import ConfigInvalid

DOVECONF = "/usr/bin/doveconf"
#: Between them they tell all types apart: by refusal or by its words.
VALUES = ("maybe", "70000", "500 ms", "")
HEAD = "protocols = imap pop3 lmtp submission sieve\n"
#: Opening lines, closing lines and type of each kind of section.
SECTIONS: dict[str, tuple[str, str]] = {
    "service": ("service imap-login {\n", "}\n"),
    "unix_listener": ("service auth {\nunix_listener x {\n", "}\n}\n"),
    "fifo_listener": ("service auth {\nfifo_listener z {\n", "}\n}\n"),
    "inet_listener": ("service imap-login {\ninet_listener x {\n", "}\n}\n"),
    "passdb": ("passdb {\ndriver = pam\n", "}\n"),
    "userdb": ("userdb {\ndriver = passwd\n", "}\n"),
    "namespace": ("namespace x {\n", "}\n"),
    "mailbox": ("namespace x {\nmailbox y {\n", "}\n}\n"),
    "metric": ("metric x {\nfilter = event=a\n", "}\n"),
    "event_exporter": ("event_exporter x {\nformat = json\nformat_args = time-unix\ntransport = log\n", "}\n"),
}
#: Refused by us alone: 500 instead of 0500 is no mode that anybody means.
STRICTER = {("unix_listener", "mode", "70000"), ("fifo_listener", "mode", "70000")}


def dump(*arguments: str) -> str:
    return subprocess.run([DOVECONF, *arguments], capture_output=True, text=True, timeout=20, check=True).stdout


@cache
def defaults() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9_]+) = ?(.*)$", dump("-dasP", "-c", "/dev/null"), re.MULTILINE))


def type_of(section: str) -> SectionType:
    for inner in (ROOT, ROOT.children["service"], ROOT.children["namespace"]):
        if section in inner.children:
            return inner.children[section]
    raise LookupError(section)


def real_errors(tmp_path: Path, texts: dict[str, str]) -> dict[str, str]:
    """The error of the real one for each text, "" if it has none."""
    def run(item: tuple[str, str]) -> tuple[str, str]:
        path = tmp_path / f"{item[0]}.conf"
        path.write_text(item[1])
        done = subprocess.run([DOVECONF, "-n", "-c", str(path)], capture_output=True, text=True, timeout=20,
                              check=False)
        fatal = [line.partition("Fatal: ")[2] for line in done.stderr.splitlines()
                 if line.startswith("doveconf: Fatal: ")]
        return item[0], (fatal or [""])[-1]
    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(run, texts.items()))


def own_errors(tmp_path: Path, name: str) -> list[str]:
    try:
        config.load(str(tmp_path / f"{name}.conf"))
    except ConfigInvalid as failure:
        return [str(problem) for problem in failure.problems]
    return []


def differing(tmp_path: Path, texts: dict[str, str]) -> list[str]:
    found = []
    for name, error in real_errors(tmp_path, texts).items():
        own = own_errors(tmp_path, name)
        if (error and error not in own) or (own and not error):
            found.append(f"{name}: real {error!r}, ours {own!r}")
    return found


def test_there_are_all() -> None:
    assert len(defaults()) > 300
    assert not set(defaults()) - set(ROOT.settings)


@pytest.mark.parametrize("value", VALUES)
def test_a_value_at_the_top(value: str, tmp_path: Path) -> None:
    assert differing(tmp_path, {name: f"{HEAD}{name} = {value}\n" for name in defaults()}) == []


def test_inside_an_address_filter(tmp_path: Path) -> None:
    """With the default as value: only the place can be wrong."""
    texts = {name: f"{HEAD}remote 10.0.0.0/8 {{\n{name} = {value}\n}}\n" for name, value in defaults().items()}
    assert differing(tmp_path, texts) == []


@pytest.mark.parametrize("section", SECTIONS)
def test_inside_a_section(section: str, tmp_path: Path) -> None:
    head, tail = SECTIONS[section]
    for value in VALUES:
        texts = {name: f"{HEAD}{head}{name} = {value}\n{tail}" for name in type_of(section).settings
                 if (section, name, value) not in STRICTER}
        assert differing(tmp_path, texts) == []


def test_sections_have_the_settings_of_the_real_ones(tmp_path: Path) -> None:
    """What it prints of a section that sets next to nothing."""
    path = tmp_path / "all.conf"
    path.write_text(HEAD + "".join(head + tail for head, tail in SECTIONS.values()))
    shown: dict[str, set[str]] = {name: set() for name in SECTIONS}
    inside: list[str] = []
    for line in dump("-as", "-c", str(path)).splitlines():
        words = line.split()
        if words and words[-1] == "{":
            inside.append(words[0])
        elif words and words[0] == "}":
            inside.pop()
        elif inside and inside[-1] in shown and words[1:2] == ["="]:
            shown[inside[-1]].add(words[0])
    for name, settings in shown.items():
        kind = type_of(name)
        assert settings - {kind.title} == set(kind.settings) - {kind.title, "alias_for"}, name   # shown when it is set


def test_free_sections_take_any_name(tmp_path: Path) -> None:
    for name in ("plugin", "dict"):
        assert ROOT.children[name].naming == FREE
        text = f"{HEAD}{name} {{\nany_thing = 1\nother.thing = 2 # three\nempty =\n}}\n"
        assert differing(tmp_path, {name: text, "path": f"{HEAD}{name} {{\na/b = 1\n}}\n"}) == []
