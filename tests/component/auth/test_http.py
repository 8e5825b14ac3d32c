"""passdb http: both dialects, several servers, and user names that would like to be headers."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.auth.passdb.http import Http
from tests.component.auth.peer import Peer
from tests.component.auth.processes import ours
from tests.component.auth.scenario import Passdb, Scenario
from tests.fakes.http_answers import Answer, Asked, http_answers

_FREE = ("lip=127.0.0.1", "lport=143", "rip=10.9.8.7", "session=SID")


def _scenario(conf: str, **settings: Any) -> Scenario:
    return Scenario([Passdb("http", "@DIR@/http.conf")], {"auth_verbose": True, **settings}, {"http.conf": conf + "\n"})


def _nginx(asked: Asked) -> Answer:
    user, password = (unquote(asked.headers.get(name, "")) for name in ("Auth-User", "Auth-Pass"))
    if password == "later":
        return Answer("", headers={"Auth-Status": "Come back", "Auth-Error-Code": "451 4.3.0", "Auth-Wait": "3"})
    if password == "nothing":
        return Answer("")
    if password != "pw" and asked.headers.get("Auth-Method") != "none":
        return Answer("", headers={"Auth-Status": "Invalid login or password", "Auth-Wait": "3"})
    headers = {"Auth-Status": "OK", "Auth-Server": "10.0.0.5", "Auth-Port": "143"}
    if user == "ann":
        headers |= {"Auth-User": "other", "Auth-Pass": "else"}
    return Answer("", headers=headers)


def test_nginx_dialect(tmp_path: Path) -> None:
    with http_answers({"/auth": _nginx}) as server, \
            ours(_scenario(f"urls = {server.url}/auth\nheaders = X-Auth-Key: a b; X-Two: 2"), tmp_path) as process:
        peer = Peer(process.path("login/login"))
        assert peer.auth("joe", "pw", *_FREE, "secured=tls") == \
            "OK\tuser=joe\thost=10.0.0.5\tport=143\tproxy\tpass=pw"
        assert peer.auth("ann", "pw", *_FREE) == \
            "OK\tuser=ann\thost=10.0.0.5\tport=143\tdestuser=other\tpass=else\tproxy"
        assert peer.auth("joe", "bad", *_FREE).startswith("FAIL\tuser=joe")
        assert "code=temp_fail" not in peer.auth("joe", "bad", *_FREE)
        assert "code=temp_fail" in peer.auth("joe", "later", *_FREE)
        assert "code=temp_fail" in peer.auth("joe", "nothing", *_FREE)
        peer.close()
        asked = server.asked[0]
        expected = {"Auth-Method": "plain", "Auth-User": "joe", "Auth-Pass": "pw", "Auth-Protocol": "imap",
                    "Auth-Login-Attempt": "1", "Client-IP": "10.9.8.7", "Auth-SSL": "on", "X-Auth-Key": "a b",
                    "X-Two": "2"}
        assert asked.method == "GET"
        assert {name: asked.headers.get(name) for name in expected} == expected
        assert server.connections == 1


@pytest.mark.parametrize("password", ["a\x0bb", "a\x7fb", "%0d%0aAuth-User: root", "ä\udcff", " x ", "a:b", '"'])
def test_no_header_is_ever_injected(tmp_path: Path, password: str) -> None:
    with http_answers({"/auth": _nginx}) as server, \
            ours(_scenario(f"urls = {server.url}/auth", auth_username_chars=""), tmp_path) as process:
        peer = Peer(process.path("auth-client"))
        peer.auth(f"joe\r\nX-Evil: 1 {password}", password, "rip=1.2.3.4\x01r\x01nX-Evil: 1")
        peer.close()
        asked = server.asked[0]
        assert "X-Evil" not in asked.headers
        assert unquote(asked.headers["Auth-Pass"], errors="surrogateescape") == password
        assert unquote(asked.headers["Auth-User"], errors="surrogateescape") == f"joe\r\nx-evil: 1 {password}".lower()


_JSON: dict[str, Any] = {
    "good": {"status": "ok", "fields": {"proxy": True, "host": "10.0.0.6", "port": 143, "no": None, "off": False,
                                        "userdb_x": "1"}},
    "hash": {"status": "ok", "fields": {"password": "{PLAIN}hash", "a": "1"}},
    "bare": {"status": "ok"}, "fail": {"status": "fail", "reason": "no\r\nway"}, "unknown": {"status": "unknown"},
    "disabled": {"status": "disabled"}, "expired": {"status": "expired"}, "temp": {"status": "tempfail"},
    "odd": {"status": "what"}, "nested": {"status": "ok", "fields": {"a": {"b": 1}}}, "list": [1],
    "tab": {"status": "ok", "fields": {"a\tuser=root": "1"}},
    "value": {"status": "ok", "fields": {"a": "1\tuser=root\n2"}},
}


def _json(asked: Asked) -> Answer:
    members = json.loads(asked.body)
    return Answer(json.dumps(_JSON.get(members["password"] or "good")))


def test_json_dialect(tmp_path: Path) -> None:
    with http_answers({"/auth": _json}) as server, \
            ours(_scenario(f"urls = {server.url}/auth\nmode = json"), tmp_path) as process:
        peer = Peer(process.path("login/login"))
        assert peer.auth("joe", "good", *_FREE) == "OK\tuser=joe\tproxy\thost=10.0.0.6\tport=143\tpass=good"
        assert peer.auth("joe", "hash") == "OK\tuser=joe\ta=1"
        assert peer.auth("joe", "bare") == "OK\tuser=joe"
        assert peer.auth("joe", "fail").startswith("FAIL\tuser=joe")
        assert peer.auth("joe", "unknown") == "FAIL\tuser=joe"
        assert "code=user_disabled" in peer.auth("joe", "disabled")
        assert "code=pass_expired" in peer.auth("joe", "expired")
        for password in ("temp", "odd", "nested", "list", "tab"):
            assert "code=temp_fail" in peer.auth("joe", password), password
        assert peer.auth("joe", "value") == "OK\tuser=joe\ta=1\x01tuser=root\x01n2"
        peer.close()
        assert server.asked[0].headers["Content-Type"] == "application/json"
        assert json.loads(server.asked[0].body) == {
            "user": "joe", "service": "imap", "mech": "PLAIN", "lip": "127.0.0.1", "rip": "10.9.8.7", "lport": "143",
            "rport": "0", "real_lip": "127.0.0.1", "real_rip": "10.9.8.7", "real_lport": "143", "real_rport": "0",
            "session": "SID", "orig_user": "joe", "password": "good"}


def test_the_next_server_is_asked_when_one_is_down_or_slow(tmp_path: Path) -> None:
    with http_answers({"/auth": lambda _asked: Answer(status=503)}) as ill, \
            http_answers({"/auth": lambda _asked: Answer(delay=0.6)}) as slow, \
            http_answers({"/auth": _nginx}) as good, http_answers({}) as dead:
        dead.stop()
        urls = " ".join(f"{server.url}/auth" for server in (dead, ill, slow, good))
        with ours(_scenario(f"urls = {urls}\ntimeout_msecs = 300"), tmp_path) as process:
            peer = Peer(process.path("login/login"))
            for _ in range(3):
                assert peer.auth("joe", "pw").startswith("OK\t")
            assert len(slow.asked) == 1                     # left alone after the first time
            peer.close()


def test_lookups_without_a_password(tmp_path: Path) -> None:
    with http_answers({"/auth": _nginx}) as server, ours(_scenario(f"urls = {server.url}/auth"), tmp_path) as process:
        peer = Peer(process.path("auth-userdb"), handshake=False)
        peer.send("VERSION\t1\t1", "PASS\t1\tjoe\tservice=lmtp")
        assert [peer.line() for _ in range(3)][2] == "PASS\t1\tuser=joe\thost=10.0.0.5\tport=143\tproxy=y"
        assert server.asked[0].headers["Auth-Method"] == "none"
        assert server.asked[0].headers["Auth-Protocol"] == "smtp"
        peer.close()


@pytest.mark.parametrize(("conf", "text"), [
    ("", "urls must name"), ("urls = ftp://x/", "not an http"), ("urls = http:///x", "not an http"),
    ("urls = http://x/\nmode = xml", "mode must be"), ("urls = http://x/ä", "may not contain"),
    ("urls = http://x/\nheaders = X", "headers"), ("urls = http://x/\nheaders = A b: c", "not a header"),
    ("urls = http://x/\ntimeout_msecs = soon", "not a number"), ("urls = http://x:99999/", "not an http"),
    ("urls = https://x/\ntls_ca_cert_file = /nonexistent", "TLS settings")])
def test_bad_settings_are_told(tmp_path: Path, conf: str, text: str) -> None:
    path = tmp_path / "http.conf"
    path.write_text(conf + "\n", encoding="utf-8")
    with pytest.raises(ArgsInvalid, match=text):
        Http(str(path))
