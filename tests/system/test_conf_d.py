"""conf.d is true: each commented setting shows the default that Dovecot has, and the set is a valid configuration."""
from __future__ import annotations

import io
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.config import variables
from mailproxy.config.dump import dump
from mailproxy.config.schema import USED
from tests import servers

CONF_D = servers.PROJECT / "conf.d"
FILES = sorted(CONF_D.glob("*.conf"))
#: Settings whose default each distribution chooses, those that keep two servers apart, and those that conf.d sets.
CHOSEN = {"login_greeting", "base_dir", "state_dir", "instance_name", "protocols", "managesieve_implementation_string",
          "submission_backend_capabilities", "service_count", "process_min_avail", "client_limit"}
#: Shown as a variable until somebody writes the same variable.
EXPANDED = "service/auth/unix_listener/auth-client/user=dovecot"
#: What mailproxy itself puts into its environment.
MACHINE = {"MAILPROXY_CPUS": "3", "MAILPROXY_CLIENTS": "700"}
#: Not worth showing: they steer nothing here, or belong to what Dovecot alone does.
OMITTED = {"version_ignore", "config_cache_size", "stats_writer_socket_path", "auth_stats",
           "imap_max_line_length",
           "login_plugins", "login_plugin_dir"}
_SETTING = re.compile(r"^( *)#([a-z_]+ =.*)$", re.MULTILINE)


def doveconf(*arguments: str) -> str:
    program = shutil.which("doveconf")
    assert program, "Dovecot is needed for this test: install dovecot-imapd"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20, check=False,
                          env={**os.environ, **MACHINE})
    assert done.returncode == 0, done.stderr
    return done.stdout


def changed_by(conf: Path) -> list[str]:
    """What of the complete configuration, one `path/key=value` a line, is not as with an empty file."""
    empty = conf.with_name("empty.conf")
    empty.write_text("")
    usual = set(doveconf("-aSx", "-c", str(empty)).splitlines())
    return sorted(line for line in doveconf("-aSx", "-c", str(conf)).splitlines()
                  if line not in usual and line != EXPANDED and not line.startswith("#"))


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
    assert {line.partition("=")[0].rpartition("/")[2] for line in differing} <= CHOSEN, "\n".join(differing)
    conf = config.load(str(shown))
    assert conf.warnings == ()
    own = io.StringIO()
    dump(conf, own)
    assert {line for line in own.getvalue().splitlines()[1:] if line[0] not in " }" and line[-1] != "{"} <= {
        "protocols = imap"}


def test_the_set_as_it_is_changes_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = tmp_path / "main.conf"
    main.write_text(f"!include {CONF_D}/*.conf\n")
    assert changed_by(main) == ["protocols=imap", *sorted(
        f"service/{name}-login/{limit}" for name in ("imap", "pop3", "submission", "managesieve")
        for limit in ("client_limit=700", "process_min_avail=3", "service_count=0"))]
    for name, value in MACHINE.items():
        monkeypatch.setenv(name, value)
    conf = config.load(str(main))
    assert conf.protocols == ("imap",)
    assert conf.warnings == ()
    service = conf.services["imap-login"]
    assert (service.service_count, service.process_min_avail, service.client_limit) == (0, 3, 700)


def test_every_setting_with_an_effect_is_shown() -> None:
    shown = {name for path in FILES for name in re.findall(r"^ *#?([a-z_0-9]+) =", path.read_text(), re.MULTILINE)}
    assert sorted(USED.keys() - shown - OMITTED) == []
    assert sorted(OMITTED & shown) == []


@pytest.mark.parametrize(("files", "clients"), [
    (1024, "480"), (20_000, "9968"), (65_536, "10000"), (10, "100"), (resource.RLIM_INFINITY, "10000")])
def test_limits_fit_the_machine(files: int, clients: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MACHINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    text, shown = variables.expand("$ENV:MAILPROXY_CLIENTS", "client_limit", lambda _: None)
    assert (text, shown) == (clients, "$ENV:MAILPROXY_CLIENTS")
    cpus, _ = variables.expand("$ENV:MAILPROXY_CPUS", "process_min_avail", lambda _: None)
    assert 1 <= int(cpus) <= 64
    assert variables.expand("$ENV:MAILPROXY_NOTHING", "process_min_avail", lambda _: None)[0] == ""
