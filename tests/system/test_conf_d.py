"""conf.d is true: each commented setting shows the default that Dovecot has, and the set is a valid configuration."""
from __future__ import annotations

import difflib
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.config.dump import dump
from tests import servers

CONF_D = servers.PROJECT / "conf.d"
FILES = sorted(CONF_D.glob("*.conf"))
#: Settings whose default each distribution chooses, those that keep two servers apart, and the one that conf.d sets.
CHOSEN = {"login_greeting", "base_dir", "instance_name", "protocols"}
_SETTING = re.compile(r"^( *)#([a-z_]+ =.*)$", re.MULTILINE)


def doveconf(*arguments: str) -> str:
    program = shutil.which("doveconf")
    assert program, "Dovecot is needed for this test: install dovecot-imapd"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def changed_by(conf: Path) -> list[str]:
    """The lines of the complete configuration in which a file differs from an empty one."""
    empty = conf.with_name("empty.conf")
    empty.write_text("")
    usual = doveconf("-a", "-c", str(empty)).splitlines()
    found = doveconf("-a", "-c", str(conf)).splitlines()
    return [line[2:] for line in difflib.ndiff(usual, found) if line.startswith("+ ") and line[2:3] != "#"]


def test_there_is_a_set() -> None:
    assert [path.name for path in FILES] == sorted(path.name for path in CONF_D.iterdir())
    assert len(FILES) >= 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commented_settings_show_the_defaults(path: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown.conf"
    text = path.read_text()
    assert "\t" not in text
    shown.write_text(_SETTING.sub(r"\1\2", text))
    differing = changed_by(shown)
    assert {line.partition(" =")[0] for line in differing} <= CHOSEN, "\n".join(differing)
    conf = config.load(str(shown))
    assert conf.warnings == ()
    own = io.StringIO()
    dump(conf, own, changed_only=True)
    assert {line for line in own.getvalue().splitlines()[1:] if line[0] not in " }" and line[-1] != "{"} <= {
        "protocols = imap"}


def test_the_set_as_it_is_changes_protocols_only(tmp_path: Path) -> None:
    main = tmp_path / "main.conf"
    main.write_text(f"!include {CONF_D}/*.conf\n")
    assert changed_by(main) == ["protocols = imap"]
    conf = config.load(str(main))
    assert conf.protocols == ("imap",)
    assert conf.warnings == ()
