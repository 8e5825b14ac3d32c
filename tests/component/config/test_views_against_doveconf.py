"""Which filters apply to a connection, and which wins: `doveconf -f` knows."""
from __future__ import annotations

import itertools
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from mailproxy import config

FILTERS = """\
login_greeting = top
login_log_format = top
mail_max_userip_connections = 1
login_source_ips = 9.9.9.9
login_proxy_rawlog_dir = top
login_plugins = top
login_access_sockets = top
login_plugin_dir = top
protocol imap {
  login_log_format = imap
}
protocol !pop3 {
  login_log_format = notpop3
  mail_max_userip_connections = 3
}
local 10.0.0.0/8 {
  login_greeting = l8
  local 10.1.0.0/16 {
    login_greeting = l16
  }
  protocol imap {
    login_source_ips = 8.8.8.8
  }
}
remote 192.168.0.0/16 {
  login_proxy_rawlog_dir = r16
}
remote 192.168.6.5 {
  login_proxy_rawlog_dir = r32
}
remote ::1 {
  login_proxy_rawlog_dir = r6
}
local_name "a.example b.example *.wild.example" {
  login_plugins = ab
}
local_name a.example {
  login_plugins = a2
  login_access_sockets = a2
}
local_name *.example {
  login_access_sockets = wild
  protocol imap {
    login_plugin_dir = x
  }
}
local_name Mixed.Case {
  login_plugins = mixed
}
"""
KEYS = ("login_greeting", "login_log_format", "mail_max_userip_connections", "login_source_ips",
        "login_proxy_rawlog_dir", "login_plugins", "login_access_sockets", "login_plugin_dir")
ADDRESSES = [*itertools.product(["", "10.1.2.3"], ["", "192.168.6.5"]), ("10.2.3.4", "192.168.5.6"), ("::1", "::1")]
NAMES = ["", "a.example", "A.Example", "c.example", "x.wild.example", "y.x.wild.example", "mixed.case", "example"]


@pytest.mark.parametrize("protocol", ["", "imap", "pop3"])
def test_same_values(protocol: str, tmp_path: Path) -> None:
    path = tmp_path / "filters.conf"
    path.write_text(FILTERS)
    conf = config.load(str(path))
    assert conf.uses_address_filters
    for (local, remote), name in itertools.product(ADDRESSES, NAMES):
        wanted = {"service": protocol, "local": local, "remote": remote, "lname": name}
        arguments = [word for key, value in wanted.items() if value for word in ("-f", f"{key}={value}")]
        run = subprocess.run(["/usr/bin/doveconf", "-h", "-c", str(path), *arguments, *KEYS], capture_output=True,
                             text=True, timeout=20, check=True)
        view = conf.view(protocol, ip_address(local) if local else None, ip_address(remote) if remote else None, name)
        written = [view.written(key) for key in KEYS]
        assert [row.text for row in written if row is not None] == run.stdout.splitlines(), wanted


DATABASES = """\
passdb {
  driver = top1
}
protocol imap {
  passdb {
    driver = imap1
  }
  passdb named {
    driver = imap2
  }
}
protocol !pop3 {
  passdb {
    driver = notpop3
  }
}
passdb named {
  driver = top2
}
"""


@pytest.mark.parametrize("protocol", ["imap", "pop3", "sieve"])
def test_databases_in_the_same_order(protocol: str, tmp_path: Path) -> None:
    path = tmp_path / "databases.conf"
    path.write_text(DATABASES)
    run = subprocess.run(["/usr/bin/doveconf", "-c", str(path), "-f", f"service={protocol}", "passdb"],
                         capture_output=True, text=True, timeout=20, check=True)
    expected = [line.rpartition(" ")[2] for line in run.stdout.splitlines() if line.startswith("  driver =")]
    assert [row.driver for row in config.load(str(path)).passdbs(protocol)] == expected
