"""Directory drivers whose servers are down, slow, broken or back again: never a wrong password, never forever."""
from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailproxy.auth import checkpassword, outcome
from mailproxy.auth.dicts.file import File
from mailproxy.auth.dicts.store import StoreFailed
from mailproxy.auth.dicts.table import make as make_store
from mailproxy.auth.ldap import connection
from mailproxy.auth.ldap.settings import Settings
from mailproxy.auth.passdb.checkpassword import CheckPassword
from mailproxy.auth.passdb.dict import Dict
from mailproxy.auth.passdb.driver import ArgsInvalid, Driver, Verifier
from mailproxy.auth.passdb.imap import Imap
from mailproxy.auth.passdb.ldap import make as make_ldap
from mailproxy.auth.passdb.pam import Pam
from mailproxy.auth.userdb.dict import Dict as UserDict
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.auth.userdb.ldap import Ldap as UserLdap
from tests.certificates import Authority
from tests.component.auth.directories import redis_server, slapd
from tests.component.auth.peer import Peer
from tests.component.auth.processes import ours
from tests.component.auth.scenario import Passdb, Scenario
from tests.servers import HOST, free_port


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


def _values(user: str) -> _Values:
    local, _, domain = user.partition("@")
    return _Values(user=user, username=local, domain=domain)


def _verify(driver: Driver, user: str, password: str) -> int:
    assert isinstance(driver, Verifier)
    return driver.verify(_values(user), password).result


@contextmanager
def _server(answer: Callable[[socket.socket], None], path: str = "") -> Iterator[int]:
    """Calls `answer` with each connection; the port."""
    listening = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listening.bind(path or (HOST, 0))
    listening.listen(8)

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                client.settimeout(5)
                try:
                    answer(client)
                except OSError:
                    continue
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield 0 if path else listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


# -- ldap -------------------------------------------------------------------------------------------------------------

def _ldap_conf(directory: Path, text: str) -> str:
    path = directory / "ldap.conf"
    path.write_text(f"dn = cn=admin,dc=x\ndnpass = adminpw\nbase = dc=x\ndefault_pass_scheme = PLAIN\n{text}\n")
    return str(path)


@pytest.mark.parametrize("bind", ["no", "yes"])
def test_a_directory_that_is_killed_stopped_and_started_again(bind: str, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT", 0.5)
    with slapd() as server:
        driver = make_ldap(_ldap_conf(tmp_path, f"uris = {server.uri}\nauth_bind = {bind}"))
        users = UserLdap(_ldap_conf(tmp_path, f"uris = {server.uri}"))

        def login(password: str) -> int:
            return _verify(driver, "joe", password) if bind == "yes" else driver.lookup(_values("joe")).result
        wrong = outcome.MISMATCH if bind == "yes" else outcome.OK
        for _ in range(2):
            assert (login("joepw"), login("bad"), login("joepw")) == (outcome.OK, wrong, outcome.OK)
            assert set(users.users(_values(""))) == {"joe", "ann", "nopw", "twice", "o,dd(x)"}
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
            assert (login("joepw"), login("bad")) == (outcome.INTERNAL, outcome.INTERNAL)
            with pytest.raises(ListingFailed):
                list(users.users(_values("")))
            server.start()
        assert login("joepw") == outcome.OK
        os.kill(server.pid, signal.SIGSTOP)
        start = time.monotonic()
        assert login("joepw") == outcome.INTERNAL
        assert time.monotonic() - start < 3
        os.kill(server.pid, signal.SIGCONT)
        time.sleep(1.1)                                 # the pause after a connect that took so long
        assert login("joepw") == outcome.OK
        driver.close()


def test_a_directory_that_answers_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT", 0.5)
    for junk in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x30\x84\xff\xff\xff\xff", b"", b"\x00" * 4096):
        def answer(client: socket.socket, junk: bytes = junk) -> None:
            client.recv(1000)
            client.sendall(junk)
        with _server(answer) as port:
            driver = make_ldap(_ldap_conf(tmp_path, f"uris = ldap://{HOST}:{port}\nauth_bind = yes"))
            assert _verify(driver, "joe", "joepw") == outcome.INTERNAL
            assert driver.lookup(_values("joe")).result == outcome.INTERNAL


def test_a_directory_that_does_not_know_us_says_nothing_of_the_user(tmp_path: Path) -> None:
    with slapd() as server:
        driver = make_ldap(_ldap_conf(tmp_path, f"uris = {server.uri}\nauth_bind = yes\ndnpass = bad"))
        assert isinstance(driver, Verifier)
        answer = driver.verify(_values("joe"), "joepw")
        assert (answer.result, "adminpw" in answer.error) == (outcome.INTERNAL, False)
        assert "binding failed (dn cn=admin,dc=x): Invalid credentials" in answer.error


@pytest.mark.parametrize(("text", "error"), [
    ("", "No uris or hosts set"), ("uris = ldap://x\nbase =", "No base given"),
    ("hosts = x\nscope = all", "Unknown scope option 'all'"), ("hosts = x\nderef = all", "Unknown deref option 'all'"),
    ("hosts = x\ntls_require_cert = yes", "Unknown tls_require_cert value 'yes'"),
    ("uris = ldaps://x\ntls = yes", "Don't use both tls=yes and ldaps URI"),
    ("hosts = x\nsasl_bind = yes\nldap_version = 2", "sasl_bind=yes requires ldap_version=3"),
    ("hosts = x\nauth_bind = maybe", "Invalid boolean value for auth_bind: maybe"),
    ("hosts = x\nldap_version = z", "Invalid number for ldap_version: z"),
    ("hosts = x\npass_attrs = uid=", "Invalid attrs entry: uid="), ("nonsense = 1", "Unknown setting: nonsense"),
])
def test_ldap_settings_are_checked(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ArgsInvalid, match=error):
        make_ldap(_ldap_conf(tmp_path, text))


def test_hosts_become_addresses(tmp_path: Path) -> None:
    settings = Settings(_ldap_conf(tmp_path, "hosts = a b:390 [::1]:391 ::1"))
    assert settings.uris == ["ldap://a", "ldap://b:390", "ldap://[::1]:391", "ldap://[::1]"]
    assert "adminpw" not in repr(settings.password)


# -- dict -------------------------------------------------------------------------------------------------------------

def _dict_conf(directory: Path, uri: str) -> str:
    path = directory / "dict.conf"
    path.write_text(f"uri = {uri}\ndefault_pass_scheme = PLAIN\nkey k {{\n key = k/%u\n format = json\n}}\n"
                    "passdb_objects = k\nuserdb_objects = k\niterate_prefix = k/\n")
    return str(path)


def test_redis_that_stops_and_comes_back(tmp_path: Path) -> None:
    with redis_server() as server:
        for place in (f"host={HOST}:port={server.port}", f"path={server.socket}"):
            driver = Dict(_dict_conf(tmp_path, f"redis:{place}:timeout_msecs=1000"))
            users = UserDict(_dict_conf(tmp_path, f"redis:{place}:timeout_msecs=1000"))
            for _ in range(2):
                server.client.set("k/joe", '{"password":"x"}')
                server.client.set("k/a*b", '{"password":"x"}')
                server.client.lpush("k/list", "1")
                assert driver.lookup(_values("joe")).password == "{PLAIN}x"
                assert driver.lookup(_values("nobody")).result == outcome.UNKNOWN
                assert driver.lookup(_values("list")).result == outcome.INTERNAL
                assert set(users.users(_values(""))) == {"joe", "a*b", "list"}
                server.stop()
                assert driver.lookup(_values("joe")).result == outcome.INTERNAL
                with pytest.raises(ListingFailed):
                    list(users.users(_values("")))
                server.start()
            assert driver.lookup(_values("joe")).result == outcome.UNKNOWN
            driver.close()


@pytest.mark.parametrize("junk", [b"what?\r\n", b"$99999999999\r\n", b"", b"+OK\r\n" * 100])
def test_redis_that_answers_nonsense(junk: bytes, tmp_path: Path) -> None:
    def answer(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(junk)
    with _server(answer) as port:
        driver = Dict(_dict_conf(tmp_path, f"redis:host={HOST}:port={port}:timeout_msecs=500"))
        assert driver.lookup(_values("joe")).result == outcome.INTERNAL


def test_a_store_behind_a_socket(tmp_path: Path) -> None:
    asked: list[bytes] = []

    def answer(client: socket.socket) -> None:
        file = client.makefile("rb")
        for line in file:
            asked.append(line)
            if line.startswith(b"L"):
                client.sendall({b"Lshared/k/joe\t\n": b'O{"password":"x"}\n', b"Lshared/k/bad\t\n": b"Fbroken\n"}
                               .get(line, b"N\n"))
            elif line.startswith(b"I"):
                client.sendall(b"Oshared/k/joe\t\nOshared/k/ann\t\n\n")
            if line.startswith(b"Lshared/k/bye"):
                return
    path = str(tmp_path / "socket")
    with _server(answer, path):
        driver = Dict(_dict_conf(tmp_path, f"proxy:{path}:name"))
        assert driver.lookup(_values("joe")).password == "{PLAIN}x"
        assert driver.lookup(_values("bye")).result == outcome.UNKNOWN
        assert driver.lookup(_values("nobody")).result == outcome.UNKNOWN           # on a new connection
        assert driver.lookup(_values("a\tb")).result == outcome.UNKNOWN
        failed = driver.lookup(_values("bad"))
        assert (failed.result, failed.error) == (outcome.INTERNAL, f"{path}: broken")
        driver.close()
        assert list(UserDict(_dict_conf(tmp_path, f"proxy:{path}:name")).users(_values(""))) == ["joe", "ann"]
    assert asked[:2] == [b"H3\t2\t0\t\tname\n", b"Lshared/k/joe\t\n"]
    assert b"Lshared/k/a\x01tb\t\n" in asked
    assert driver.lookup(_values("joe")).result == outcome.INTERNAL


def test_files_are_read_again_and_keys_cannot_leave_their_directory(tmp_path: Path) -> None:
    clock = [0.0]
    path = tmp_path / "f"
    store = File(str(path), lambda: clock[0])
    assert store.get("shared/a") is None
    path.write_text("shared/a\n1\n")
    clock[0] = 2
    assert (store.get("shared/a"), list(store.keys("shared/"))) == ("1", ["shared/a"])
    (tmp_path / "secret").write_text("s")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "k").write_text("v")
    files = make_store(f"fs:posix:prefix={tmp_path}/d/")
    assert (files.get("shared/k"), list(files.keys("shared/"))) == ("v", ["shared/k"])
    for key in ("../secret", "./../secret", "x/../../secret", "k\0", "."):
        assert files.get(f"shared/{key}") is None
    (tmp_path / "d" / "big").write_bytes(b"x" * (1024 * 1024 + 1))
    with pytest.raises(StoreFailed, match="more than 1048576 bytes"):
        files.get("shared/big")


@pytest.mark.parametrize(("uri", "error"), [
    ("", "Empty uri"), ("redis", "missing ':'"), ("sql:x", "Unknown dict module: sql"),
    ("redis:x=1", "Unknown parameter: x"), ("redis:port=x", "must be numbers"),
    ("proxy::name", "there is no dict service"), ("fs:posix", "absolute path"), ("fs:dict:x", "Unknown fs driver"),
    ("file:x", "must be absolute")])
def test_uris_are_checked(uri: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(ArgsInvalid, match=error):
        Dict(_dict_conf(tmp_path, uri))


# -- checkpassword ----------------------------------------------------------------------------------------------------

def _program(directory: Path, text: str) -> CheckPassword:
    path = directory / "check"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return CheckPassword(str(path))


@pytest.mark.parametrize(("text", "result"), [
    ("exec sleep 60", outcome.INTERNAL), ("sleep 60 & sleep 60", outcome.INTERNAL),
    ("trap '' TERM; sleep 60", outcome.INTERNAL), ("exec 3<&-; USER=a exec $1", outcome.OK),
    ("(exec sleep 60) & USER=a exec $1", outcome.OK),
    ("head -c 20000 /dev/zero | tr '\\0' x >&4; exit 0", outcome.INTERNAL),
    ("yes >&2 & USER=a EXTRA=x x=1 exec $1", outcome.OK), ("EXTRA='a;id' exec $1", outcome.INTERNAL),
    ("kill -SEGV $$", outcome.INTERNAL), ("exec /nonexistent", outcome.INTERNAL), ("exit 1", outcome.MISMATCH),
])
def test_programs_that_misbehave(text: str, result: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpassword, "TIMEOUT", 1.0)
    before = len(os.listdir("/proc/self/fd"))
    start = time.monotonic()
    driver = _program(tmp_path, text)
    assert driver.verify(_values("joe"), "pw").result == result
    assert time.monotonic() - start < 5
    assert len(os.listdir("/proc/self/fd")) == before


def test_values_reach_the_reply_unharmed(tmp_path: Path) -> None:
    value = "a\tb\x01c\n\n $(id) ; 'q' \"d\" \\ ä *\r\n"
    driver = _program(tmp_path, "export EXTRA=VALUE; exec $1")
    os.environ["VALUE"] = value
    try:
        answer = driver.verify(_values("joe"), "pw")
    finally:
        del os.environ["VALUE"]
    assert ("value", value) in answer.fields


def test_credentials_are_asked_for_by_their_scheme(tmp_path: Path) -> None:
    driver = _program(tmp_path, """export password="{PLAIN}$CREDENTIALS_LOOKUP,$SCHEME" EXTRA=password AUTHORIZED=2
exec $1""")
    for scheme, password in (("CRAM-MD5", "1,CRAM-MD5"), ("", ",")):
        values = _values("joe")
        values["wanted_scheme"] = scheme
        answer = driver.lookup(values)
        assert (answer.result, answer.password) == (outcome.OK, "{PLAIN}" + password)


def test_programs_run_as_the_auth_service_would(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    driver = _program(tmp_path, "unset USER HOME; export who=$(id -u):$(id -g):$(id -G) EXTRA=who; exec $1")
    for parent in tmp_path.parents[:-2]:
        os.chmod(parent, 0o755)
    driver.program.identity = (65534, 65534)
    assert ("who", "65534:65534:65534") in driver.verify(_values("joe"), "pw").fields
    changing = _program(tmp_path, "exec setpriv --reuid=1234 --clear-groups $1")
    changing.program.identity = (0, 0)
    answer = changing.verify(_values("joe"), "pw")
    assert (answer.result, "changed its uid" in answer.error) == (outcome.INTERNAL, True)


# -- imap -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("reply", "result"), [
    (b"OK in", outcome.OK), (b"OK [CAPABILITY x] in", outcome.OK), (b"NO no", outcome.MISMATCH),
    (b"NO [AUTHENTICATIONFAILED] no", outcome.MISMATCH), (b"NO [ALERT] no", outcome.MISMATCH),
    (b"NO [EXPIRED] no", outcome.EXPIRED), (b"NO [UNAVAILABLE] later", outcome.INTERNAL),
    (b"BAD what", outcome.INTERNAL), (b"", outcome.INTERNAL), (b"x" * 200_000, outcome.INTERNAL)])
@pytest.mark.parametrize("mode", ["", "imaps", "starttls", "sasl"])
def test_what_another_imap_server_says(reply: bytes, result: int, mode: str, tmp_path: Path) -> None:
    import ssl
    authority = Authority(tmp_path)
    pair = authority.issue(HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    seen: list[bytes] = []

    def answer(client: socket.socket) -> None:
        if mode == "imaps":
            client = context.wrap_socket(client, server_side=True)
        client.sendall(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi {3}\r\nx\r\n more\r\n" if mode == "sasl"
                       else b"* OK hi\r\n")
        line = client.recv(1000)
        if mode == "starttls":
            assert line == b"1 STARTTLS\r\n"
            client.sendall(b"1 OK go\r\n")
            client = context.wrap_socket(client, server_side=True)
            line = client.recv(1000)
        if line.endswith(b"CAPABILITY\r\n"):
            client.sendall(b"* CAPABILITY IMAP4rev1\r\n" + line.split()[0] + b" OK done\r\n")
            line = client.recv(1000)
        while line.endswith(b"}\r\n"):
            client.sendall(b"+ go\r\n")
            seen.append(client.recv(1000))
            line += seen[-1]
        seen.append(line)
        if reply:
            client.sendall(b"* 1 EXISTS {2}\r\nab\r\n" + line.split()[0] + b" " + reply + b"\r\n")
        if mode in ("imaps", "starttls"):
            client.close()
    with _server(answer) as port:
        tls = f" ssl={mode} ssl_ca_file={authority.authority}" if mode in ("imaps", "starttls") else ""
        driver = Imap(f"host={HOST} port={port} username=%n{tls}")
        got = driver.verify(_values("j\"oe@x"), "p w")
        assert got.result == result, (got.error, got.note)
        assert b"p w" in seen[-1] or b"AGoib2UAcCB3" in seen[-1] or mode == "sasl"
        if tls:
            untrusting = Imap(f"host={HOST} port={port} ssl={mode}")
            assert untrusting.verify(_values("joe"), "pw").result == outcome.INTERNAL
    assert driver.verify(_values("joe"), "pw").result == outcome.INTERNAL           # nobody listens
    assert driver.verify(_values("joe"), "pw\r\n2 LOGOUT").result == outcome.MISMATCH


@pytest.mark.parametrize("args", ["", "port=1", "host=x ssl=yes", "host=x port=0", "host=x port=z", "host=x what=1",
                                  "host=x ssl=imaps ssl_ca_file=/nonexistent"])
def test_imap_args_are_checked(args: str) -> None:
    with pytest.raises(ArgsInvalid):
        Imap(args)


# -- pam --------------------------------------------------------------------------------------------------------------

def test_pam_modules_that_cannot_tell(tmp_path: Path) -> None:
    name = f"mailproxy-test-trouble-{os.getpid()}"
    service = Path("/etc/pam.d", name)
    try:
        for value, result in (("authinfo_unavail", outcome.INTERNAL), ("auth_err", outcome.MISMATCH),
                              ("user_unknown", outcome.UNKNOWN), ("maxtries", outcome.MISMATCH),
                              ("success", outcome.OK)):
            service.write_text(f"auth required pam_debug.so auth={value}\naccount required pam_permit.so\n")
            assert _verify(Pam(name), "joe", "pw") == result, value
        service.write_text("auth required pam_no_such_module.so\naccount required pam_permit.so\n")
        assert _verify(Pam(name), "joe", "pw") != outcome.OK
        assert _verify(Pam(name), "joe", "p\0w") == outcome.MISMATCH
    finally:
        service.unlink()


def test_pam_workers_end_after_their_share_and_nobody_notices(tmp_path: Path) -> None:
    name = f"mailproxy-test-share-{os.getpid()}"
    service = Path("/etc/pam.d", name)
    service.write_text("auth required pam_permit.so\naccount required pam_permit.so\n")
    try:
        scenario = Scenario([Passdb("pam", f"max_requests=2 {name}")], {"auth_cache_size": 100000})
        with ours(scenario, tmp_path, 3) as auth:
            peer = Peer(auth.path("auth-client"))
            assert [peer.auth(f"u{number}", "x") for number in range(6)] == [f"OK\tuser=u{n}" for n in range(6)]
            assert "given to another worker" not in auth.log()
            peer.close()
    finally:
        service.unlink()


def test_a_password_that_pam_accepted_is_cached_as_a_hash(tmp_path: Path) -> None:
    name = f"mailproxy-test-cache-{os.getpid()}"
    service = Path("/etc/pam.d", name)
    service.write_text("auth required pam_permit.so\naccount required pam_permit.so\n")
    try:
        scenario = Scenario([Passdb("pam", f"cache_key=%u {name}")], {"auth_cache_size": 100000})
        with ours(scenario, tmp_path) as auth:
            peer = Peer(auth.path("auth-client"))
            assert peer.auth("joe", "pw") == "OK\tuser=joe"
            service.write_text("auth required pam_deny.so\n")
            assert peer.auth("joe", "pw") == "OK\tuser=joe"                 # from the cache
            assert peer.auth("joe", "other").startswith("FAIL\tuser=joe")   # asked again, and denied
            peer.close()
    finally:
        service.unlink()


@pytest.mark.parametrize("args", ["nonsense=1 dovecot", "max_requests=x"])
def test_pam_args_are_checked(args: str) -> None:
    with pytest.raises(ArgsInvalid):
        Pam(args)


def test_a_port_where_nobody_listens(tmp_path: Path) -> None:
    driver = Dict(_dict_conf(tmp_path, f"redis:host={HOST}:port={free_port()}"))
    assert driver.lookup(_values("joe")).result == outcome.INTERNAL
