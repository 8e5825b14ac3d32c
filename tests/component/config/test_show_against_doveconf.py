"""The options of doveconf that print parts of a configuration, on both sides: the same lines, the same exit status."""
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mailproxy import cli

DOVECONF = "/usr/bin/doveconf"
#: Not of the file, or with another default.
UNCOMPARED = ("# ", "managesieve_", "protocols =", "base_dir =", "state_dir =", "instance_name =",
              "login_greeting = Dovecot ")
SECRET = "two\nlines\n"
TEXT = """\
protocols = imap
login_greeting = one
mail_location = $login_greeting x
ssl_cert = <secret.pem
ssl_key = <secret.pem
ssl_client_key = " edges  "
login_log_format = "\\"x\\" #y"
plugin {
  x = $login_greeting y
  z = <secret.pem
  url = http://a:b@c/ http://d:e@f/
  empty =
}
protocol imap {
  login_greeting = two
  mail_plugins = $mail_plugins a
  plugin {
    x = other
  }
  passdb {
    driver = static
    args = password=x
  }
  service imap-login {
    process_limit = 6
    inet_listener imap {
      port = 10143
    }
  }
  namespace a {
    prefix = p
  }
}
local 11.0.0.0/8 {
  mail_home = three
}
remote 12.0.0.1 {
  ssl = no
}
local_name four.example {
  hostname = four
}
passdb {
  driver = static
  args = password=x <secret.pem
  skip = never
  master = no
}
passdb {
  driver = pam
  deny = yes
  args =
}
service foo {
  executable = <secret.pem
  user = $default_login_user
  group =
}
namespace a {
  list = yes
  separator =
  mailbox b {
    auto = no
    comment =
  }
  mailbox c {
  }
}
metric m {
  filter = event=a
  fields =
}
"""
#: Arguments of both; ours need -a where doveconf prints without being told to.
SAME = """\
-n | -N | -a | -as | -d | -nP | -NP | -nx
-f service=imap passdb | -a -f protocol=imap plugin | -a -f protocol=imap namespace
-h login_greeting | -h ssl login_greeting ssl | -h ssl_key | -hx ssl_key | -hx plugin/z | -hx mail_location | -h plugin
-f protocol=imap -h login_greeting | -f local=11.2.3.4 -h mail_home | -h -f lname=FOUR.example hostname
-a login_greeting | -a ssl_key | -x mail_location | -a mail_location | -a login_log_format | -a ssl_client_key
-n ssl | -n ssl_cert ssl | -d ssl | -N ssl | -a ssl ssl_cert | -n plugin/empty
-a service/imap-login | -n service/imap-login | -n service | -d service/imap-login/service_count | -N service/foo
-a service/imap-login/inet_listener/imap/port | -a service/auth/unix_listener/login\\slogin/mode
-a plugin | -a plugin/x | -a passdb | -n passdb | -N passdb | -a passdb/0/driver passdb/1/driver | -h passdb/1/deny
-a namespace | -n namespace/a | -a namespace/a/list | -a metric | -a metric/m/filter | -a dict
"""
REFUSED = ["-n -f foo", "-n -f bogus=1", "-n -f local=1.2.3.4/99", "-n -f remote=", "-n -f local=1.2.3.4.5.invalid"]


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "secret.pem").write_text(SECRET)
    (tmp_path / "show.conf").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return "show.conf"


def real(arguments: str, conf: str) -> subprocess.CompletedProcess[str]:
    # of them, doveconf takes the last way of choosing settings that it knows, so -a with a name is its default
    return subprocess.run([DOVECONF, "-c", conf, *arguments.split()], capture_output=True, text=True, timeout=20,
                          check=False)


def comparable(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.startswith(UNCOMPARED)]
    # doveconf leaves the last brace of a section out that was asked for by its name
    while lines and lines[-1] == "}":
        lines.pop()
    return lines


@pytest.mark.parametrize("arguments", [words.strip() for line in SAME.splitlines() for words in line.split(" | ")])
def test_same_lines(arguments: str, conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = real(arguments, conf)
    assert cli.main(["-c", conf, *arguments.split()]) == expected.returncode == 0
    shown = comparable(capsys.readouterr().out)
    assert shown == comparable(expected.stdout)


@pytest.mark.parametrize(("condition", "blocks"), [
    ("protocol=imap", ["protocol imap", "remote 12.0.0.1", "local 11.0.0.0/8", "local_name four.example"]),
    ("service=pop3", ["remote 12.0.0.1", "local 11.0.0.0/8", "local_name four.example"]),
    ("lname=other", ["protocol imap", "remote 12.0.0.1", "local 11.0.0.0/8"]),
    ("local=11.0.0.0/7", ["protocol imap", "remote 12.0.0.1", "local 11.0.0.0/8", "local_name four.example"])])
def test_blocks_that_may_still_match_are_shown(condition: str, blocks: list[str], conf: str,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    def heads(text: str) -> list[str]:
        return [line.removesuffix(" {") for line in text.splitlines()
                if line.startswith(("protocol ", "remote ", "local ", "local_name "))]

    assert cli.main(["-c", conf, "-n", "-f", condition]) == 0
    shown = capsys.readouterr().out
    assert heads(shown) == heads(real(f"-n -f {condition}", conf).stdout) == blocks
    # doveconf loses sections outside of the blocks here
    assert "metric m {" in shown


@pytest.mark.parametrize("arguments", REFUSED)
def test_same_refusal(arguments: str, conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = real(arguments, conf)
    assert cli.main(["-c", conf, *arguments.split()]) == expected.returncode == 89
    assert capsys.readouterr().err.splitlines()[-1] == expected.stderr.splitlines()[-1].removeprefix("doveconf: ")


@pytest.mark.parametrize("name", ["nosuch", "service/nosuch", "service/imap-login/nosuch", "passdb/7/driver",
                                  "plugin/nosuch", "protocol", "", "/", "service//", "ssl/x", "passdb/²/driver"])
def test_unknown_names_are_errors(name: str, conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-c", conf, "-h", name]) == 89
    answer = capsys.readouterr()
    assert (answer.out, answer.err) == ("", f"Fatal: Unknown setting: {name}\n")


def test_sections_are_closed(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-c", conf, "-n", "service/foo", "metric"]) == 0
    assert capsys.readouterr().out == ("service foo {\n  executable = <secret.pem\n  group = \n"
                                       "  user = $default_login_user\n}\n"
                                       "metric m {\n  fields = \n  filter = event=a\n}\n")


@pytest.mark.parametrize("arguments", [["-h"], ["--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize("arguments", [["-n", "-Z"], ["-f"], ["--nosuch"], ["-c"], ["-c", ""]])
def test_bad_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 89
    assert "Fatal: " in capsys.readouterr().err
