"""A dump can be read again and hides what is secret."""
from __future__ import annotations

import io
from collections.abc import Callable

from mailproxy import __version__, config
from mailproxy.config.dump import ALL, CHANGED, Style, dump

TEXT = """\
protocols = imap
login_greeting = "a # b "
ssl_key = <key.pem
ssl_key_password = sesame
local 10.0.0.0/8 {
  local_name "a b" {
    protocol imap {
      login_greeting = $login_greeting c
    }
  }
}
passdb {
  driver = static
  args = password=sesame proxy=y
}
service "my service" {
  executable = /bin/true
  unix_listener "x y" {
    mode = 0600
  }
}
"""


def shown(conf: config.Config, *, changed_only: bool = True, show_secrets: bool = False) -> str:
    out = io.StringIO()
    dump(conf, out, Style(CHANGED if changed_only else ALL, secrets=show_secrets))
    return out.getvalue()


def test_reads_back(load: Callable[..., config.Config]) -> None:
    first = shown(load(TEXT), show_secrets=True)
    again = load(first)
    assert shown(again, show_secrets=True) == first
    assert again.view("imap", local_name="b").login.login_greeting == "a # b "


def test_header(load: Callable[..., config.Config]) -> None:
    conf = load(TEXT)
    assert shown(conf).splitlines()[0] == f"# mailproxy {__version__}: {conf.path}"


def test_secrets_are_hidden(load: Callable[..., config.Config]) -> None:
    for changed_only in (True, False):
        text = shown(load(TEXT), changed_only=changed_only)
        assert "sesame" not in text
        assert "ssl_key = # hidden, use -P to show it\n" in text
    assert "sesame" in shown(load(TEXT), show_secrets=True)


def test_everything_reads_back(load: Callable[..., config.Config]) -> None:
    everything = shown(load("protocols = imap\n"), changed_only=False, show_secrets=True)
    assert len(everything.splitlines()) > 1000
    assert load(everything).view().core == load("protocols = imap\n").view().core
