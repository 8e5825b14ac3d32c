"""The same files through the real doveconf and through ours: settings, warnings, errors and where they stand."""
from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.config.dump import ALL, Style, dump
from mailproxy.errors import ConfigInvalid

from .snippets import BAD, GOOD, WHOLE

DOVECONF = "/usr/bin/doveconf"
INCLUDES = {"a.conf": "ssl = no\n", "c.conf": "ssl = required\n", "b.conf": "login_greeting = b\n",
            "limit.inc": "process_limit = 7\n", "broken.inc": "\nfoo = 1\n"}
#: Probed by programs that run at the time of the dump, not settings of the file.
_PROBED = ("managesieve_notify_capability", "managesieve_sieve_capability")


@pytest.fixture
def snippet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to write; includes stand beside it.  Run from its directory, so that names stay short."""
    (tmp_path / "inc").mkdir()
    for name, text in INCLUDES.items():
        (tmp_path / "inc" / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return Path("snippet.conf")


def real(path: str) -> tuple[list[str], list[str], str]:
    """(dump, warnings, error) of the real thing."""
    run = subprocess.run([DOVECONF, "-n", "-c", path], capture_output=True, text=True, timeout=20, check=False)
    log = run.stderr.splitlines()
    fatal = [line.partition("Fatal: ")[2] for line in log if line.startswith("doveconf: Fatal: ")]
    warnings = [line.partition("Warning: ")[2] for line in log if line.startswith("doveconf: Warning: ")]
    # the one failure that it calls an error without failing
    warnings += [line.partition("Error: ")[2] for line in log if "Error: Could not find a minimum" in line]
    assert fatal or not run.returncode, run.stderr
    return comparable(run.stdout), [text for text in warnings if not text.startswith("NOTE:")], (fatal or [""])[-1]


def comparable(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("# ", *_PROBED))]


def ours(path: str) -> tuple[list[str], tuple[str, ...]]:
    conf = config.load(path)
    out = io.StringIO()
    dump(conf, out)
    return comparable(out.getvalue()), conf.warnings


@pytest.mark.parametrize("name", GOOD)
def test_same_settings(name: str, snippet: Path) -> None:
    snippet.write_text(GOOD[name], newline="")
    expected, warnings, error = real(str(snippet))
    assert not error
    shown, told = ours(str(snippet))
    assert shown == expected
    assert set(told) == set(warnings)


@pytest.mark.parametrize("name", BAD)
def test_same_first_error(name: str, snippet: Path) -> None:
    snippet.write_text(BAD[name], newline="")
    _, _, error = real(str(snippet))
    assert error, "the real doveconf accepts it"
    with pytest.raises(ConfigInvalid) as caught:
        config.load(str(snippet))
    assert str(caught.value.problems[0]) == error


@pytest.mark.parametrize("name", WHOLE)
def test_same_whole_error(name: str, snippet: Path) -> None:
    snippet.write_text(WHOLE[name])
    _, _, error = real(str(snippet))
    assert error, "the real doveconf accepts it"
    with pytest.raises(ConfigInvalid) as caught:
        config.load(str(snippet))
    assert error in map(str, caught.value.problems)


def test_missing_main_file(snippet: Path) -> None:
    _, _, error = real("nothing.conf")
    with pytest.raises(ConfigInvalid) as caught:
        config.load("nothing.conf")
    assert str(caught.value).startswith("open(nothing.conf) failed: No such file or directory")
    assert error.startswith(str(caught.value))


def test_the_packaged_tree() -> None:
    expected, warnings, error = real("/etc/dovecot/dovecot.conf")
    assert not error
    assert ours("/etc/dovecot/dovecot.conf") == (expected, tuple(dict.fromkeys(warnings)))


@pytest.mark.parametrize("path", sorted(map(str, Path("/etc/dovecot/conf.d").glob("*.conf"))))
def test_each_packaged_file(path: str) -> None:
    expected, _, error = real(path)
    assert not error
    shown, _ = ours(path)
    # without the main file the list of protocols starts with the upstream default
    assert [line for line in shown if not line.startswith("protocols")] \
        == [line for line in expected if not line.startswith("protocols")]


#: Ours on purpose: names of the instance, texts that Debian patches, and one that is not shown.
_OWN_DEFAULTS = {"base_dir", "state_dir", "instance_name", "protocols", "login_greeting",
                 "managesieve_implementation_string", "submission_backend_capabilities", *_PROBED}


def test_all_settings_and_defaults(snippet: Path) -> None:
    """Every setting and service that the real one knows, with its default."""
    snippet.write_text("")
    run = subprocess.run([DOVECONF, "-as", "-c", str(snippet)], capture_output=True, text=True, timeout=20, check=True)
    expected = comparable(run.stdout)
    out = io.StringIO()
    dump(config.load(str(snippet)), out, Style(ALL, rare=True))
    shown = comparable(out.getvalue())

    def shared(lines: list[str]) -> list[str]:
        return [line for line in lines if line.split(" =")[0] not in _OWN_DEFAULTS]

    assert shared(shown) == shared(expected)


EXPANDED = """\
login_greeting = $mail_location x
mail_location = later
default_client_limit = 77
default_process_limit = $default_client_limit
mail_plugins = a
protocol imap {
  mail_plugins = $mail_plugins b
  login_log_format = $mail_plugins z
}
mail_home = $ENV:MAILPROXY_TEST  y $ENV:MAILPROXY_NOTHING z
ssl = $verbose_ssl
"""


def test_variables_as_of_the_point_of_use(snippet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILPROXY_TEST", "value")
    snippet.write_text(EXPANDED)
    conf = config.load(str(snippet))
    for key in ("login_greeting", "default_process_limit", "mail_plugins", "login_log_format", "mail_home", "ssl"):
        run = subprocess.run([DOVECONF, "-xh", "-c", str(snippet), "-f", "service=imap", key], capture_output=True,
                             text=True, timeout=20, check=True, env=os.environ)
        written = conf.view(protocol="imap").written(key)
        assert written is not None
        assert written.text == run.stdout.removesuffix("\n"), key
