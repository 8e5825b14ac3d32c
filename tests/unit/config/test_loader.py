"""What a loaded configuration answers: services, views, databases."""
from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.config.loader import MAX_VIEWS
from mailproxy.errors import ConfigInvalid

Load = Callable[..., config.Config]


def test_own_names(load: Load) -> None:
    core = load("").view().core
    assert (core.base_dir, core.instance_name, core.state_dir) == ("/run/mailproxy", "mailproxy", "/var/lib/mailproxy")
    assert core.listen == ("*", "::")


def test_service_numbers(load: Load) -> None:
    conf = load("protocols = imap\ndefault_process_limit = 50\n"
                "service imap-login {\nclient_limit = 7\nvsz_limit = 0\n}\n")
    login = conf.services["imap-login"]
    assert (login.process_limit, login.client_limit, login.service_count, login.idle_kill) == (50, 7, 1, 60.0)
    assert login.vsz_limit == 0
    assert conf.services["auth"].vsz_limit == 256 << 20
    assert conf.services["log"].idle_kill == 0.0
    assert conf.services["auth-worker"].executable == "auth -w"
    assert "pop3-login" not in conf.services


def test_wildcard_names(load: Load) -> None:
    conf = load("local_name *.a.example {\nlogin_greeting = one\n}\n"
                "local_name mx.*.example {\nlogin_greeting = two\n}\n")
    wanted = {"x.a.example": "one", "mx.a.example": "one", "mx.b.example": "two", "a.example": "Dovecot ready.",
              "y.x.a.example": "Dovecot ready.", "mx.example": "Dovecot ready."}
    assert {name: conf.view(local_name=name).login.login_greeting for name in wanted} == wanted


def test_secrets_stay_out_of_problems(load: Load) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load("ssl_key_password = $sesame\n")
    assert "sesame" not in str(caught.value)


def test_listeners(load: Load) -> None:
    text = ("protocols = imap\nlisten = 127.0.0.1, [::1]\ndefault_internal_user = root\nservice imap-login {\n"
            "inet_listener imap {\nport = 1143\nhaproxy = yes\n}\ninet_listener imaps {\nport = 0\n}\n"
            "inet_listener other {\nport = 1144\naddress = *\n}\n}\n"
            "service anvil {\nunix_listener anvil-auth-penalty {\nmode = 0\n}\n}\n")
    conf = load(text)
    rows = [(row.name, row.addresses, row.port, row.haproxy) for row in conf.services["imap-login"].inet_listeners]
    assert rows == [("imap", ("127.0.0.1", "::1"), 1143, True), ("other", ("*",), 1144, False)]
    assert [row.path for row in conf.services["anvil"].unix_listeners] == ["anvil"]
    users = {row.path: (row.mode, row.user) for row in conf.services["auth"].unix_listeners}
    assert users["auth-client"] == (0o600, "root")
    assert users["login/login"] == (0o666, "")


def test_without_tls_its_listeners_are_not_opened(load: Load) -> None:
    conf = load("protocols = imap\nssl = no\n")
    assert [row.name for row in conf.services["imap-login"].inet_listeners] == ["imap"]


def test_databases(load: Load) -> None:
    conf = load("passdb {\ndriver = static\nargs = password=sesame\nmechanisms = plain, login\n}\n"
                "passdb {\ndriver = static\nargs = password=sesame\nmaster = yes\npass = yes\n}\n"
                "protocol imap {\npassdb {\ndriver = pam\n}\n}\n"
                "userdb {\ndriver = passwd\nskip = found\n}\n")
    one, two = conf.passdbs()
    assert (one.mechanisms, one.master, one.line) == (("plain", "login"), False, 1)
    assert (two.mechanisms, two.master, two.pass_, two.line) == ((), True, True, 6)
    assert "sesame" not in repr(one)
    assert [row.driver for row in conf.passdbs("imap")] == ["pam", "static", "static"]
    assert [(row.driver, row.skip) for row in conf.userdbs("imap")] == [("passwd", "found")]


def test_written(load: Load) -> None:
    conf = load("shutdown_clients = yes\nprotocol imap {\nssl = no\n}\n")
    assert conf.written("shutdown_clients")
    assert not conf.written("ssl")


def test_files_are_read_late_and_once(load: Load, tmp_path: Path) -> None:
    conf = load("ssl_key = <key.pem\nssl_cert = <cert.pem\n")
    with pytest.raises(ConfigInvalid) as caught:
        _ = conf.view().ssl
    assert {(row.line, row.text) for row in caught.value.problems} == {
        (1, f"ssl_key: Can't open file {tmp_path}/key.pem: No such file or directory"),
        (2, f"ssl_cert: Can't open file {tmp_path}/cert.pem: No such file or directory")}
    (tmp_path / "key.pem").write_text("KEY\n")
    (tmp_path / "cert.pem").write_text("CERT\n")
    assert conf.view("imap").ssl.ssl_cert == "CERT\n"
    assert conf.view().ssl.ssl_key.reveal() == "KEY\n"
    assert "KEY" not in repr(conf.view().ssl)
    (tmp_path / "key.pem").unlink()
    assert conf.view().ssl.ssl_key


def test_views_are_shared(load: Load) -> None:
    conf = load("local_name a.example {\nlogin_greeting = a\n}\n")
    assert conf.view("imap") is conf.view("pop3")
    assert conf.view(local_name="unknown") is conf.view()
    assert conf.view(local_name="A.example") is conf.view("imap", local_name="a.example")
    assert conf.view(local_name="a.example").login.login_greeting == "a"
    assert conf.local_names == ("a.example",)
    assert not conf.uses_address_filters


def test_views_are_bounded(load: Load) -> None:
    blocks = "".join(f"remote 10.{n >> 8}.{n & 255}.0/24 {{\nlogin_greeting = g{n}\n}}\n" for n in range(200))
    conf = load(blocks)
    for n in range(200):
        assert conf.view(remote=ip_address(f"10.{n >> 8}.{n & 255}.9")).login.login_greeting == f"g{n}"
    assert MAX_VIEWS > 2000


def test_thousands_of_names_load_quickly(load: Load) -> None:
    text = "protocols = imap\nprotocol imap {\nlogin_greeting = x\n}\n" + "".join(
        f"local_name host{n}.example.org {{\nssl_cert = <c{n}.pem\nssl_key = <k{n}.pem\n}}\n" for n in range(2000))
    started = time.process_time()
    conf = load(text)
    assert time.process_time() - started < 1.0
    assert len(conf.local_names) == 2000
    started = time.process_time()
    for n in range(2000):
        assert conf.view("imap", local_name=f"host{n}.example.org").login.login_greeting == "x"
    assert time.process_time() - started < 0.5
