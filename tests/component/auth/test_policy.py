"""The policy server: the same questions and reports as a real Dovecot sends, and what its answers do.

One small HTTP server answers by user name; it keeps what it was told.
"""
from __future__ import annotations

import base64
import contextlib
import http.server
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailproxy import sasl
from mailproxy.auth.policy import WORKERS, attributes, digest
from mailproxy.secret import Secret
from tests.component.auth.peer import Peer, plain, without_id
from tests.component.auth.processes import Ours, dovecot, ours
from tests.component.auth.scenario import Passdb, Scenario

_HEADERS = ("Authorization", "User-Agent", "Content-Type", "X-Foo", "X-Api-Key")
_ATTRIBUTES = ("login=%{requested_username} pwhash=%{hashed_password} remote=%{rip} device_id=%{client_id} protocol=%s"
               " session_id=%{session} a/b=1 a/c=%{user} z=%m")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PolicyServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        headers = {name: self.headers[name] for name in _HEADERS if name in self.headers}
        self.server.asked.append((self.path, body, headers))
        name = json.loads(body).get("login", "").partition("@")[0]
        if name == "slow":
            time.sleep(1.0)
        times = sum(path == self.path and '"later@' in text for path, text, _ in self.server.asked)
        later = name == "later" and times > 1
        status = -1 if name == "refused" or later else {"tarpit": 1, "silent": -5}.get(name, 0)
        answer = json.dumps({"status": status, "msg": "" if name == "silent" else "go away"})
        answer = {"junk": "<html>", "empty": "{}", "text": '"x"'}.get(name, answer)
        self.send_response(500 if name == "error" else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


class PolicyServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def quiet(self) -> list[tuple[str, str, dict[str, str]]]:
        """What it was asked, once nothing more comes."""
        count = -1
        while count != len(self.asked):
            count = len(self.asked)
            time.sleep(0.4)
        return sorted(self.asked, key=str)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    made = PolicyServer()
    yield made
    made.stop()


_NAMES = ("joe", "refused", "tarpit", "silent", "junk", "empty", "text", "error", "later", "slow")


def scenario(port: int, **settings: Any) -> Scenario:
    return Scenario(
        [Passdb("static", "password=secret note=m", master=True), Passdb("passwd-file", "@DIR@/users")],
        {"auth_mechanisms": ("plain", "cram-md5", "scram-sha-1", "anonymous"),
         "auth_policy_server_url": f"http://us%65r:pw@127.0.0.1:{port}/?x=y&", "auth_verbose": True,
         "auth_policy_server_api_header": "X-Foo: bar", "auth_policy_hash_nonce": Secret("nonce"),
         "auth_policy_request_attributes": _ATTRIBUTES, **settings},
        {"users": "".join(f"{name}@x:{{PLAIN}}secret::::::note=1\n" for name in _NAMES)})


def _conversation(path: str) -> list[list[str]]:
    peer = Peer(path)
    lines = [("PLAIN", plain(f"{name}@x", password))
             for name in _NAMES
             for password in ("secret", "wrong") if name != "slow" and (name, password) != ("later", "wrong")]
    lines += [("PLAIN", plain("nobody", "x")), ("PLAIN", plain("admin", "secret", "joe@x")),
              ("PLAIN", plain("bad name", 'a"b')), ("PLAIN", "YQ=="), ("ANONYMOUS", "bWU="),
              ("PLAIN", plain("joe@x", "p\udcff\"ä"))]
    params = ["service=imap\tsession=S1\trip=10.0.0.1", "service=imap\tsecured=tls\tclient_id=(\"name\" \"x\")",
              "service=imap\tsecured\tno-penalty"]
    for number, (mech, response) in enumerate(lines, 1):
        peer.send(f"AUTH\t{number}\t{mech}\t{params[number % 3]}\tresp={response}")
    found = {}
    while len(found) < len(lines):
        line = peer.line()
        found[int(line.split("\t")[1])] = sorted(word for word in without_id(line).split("\t") if word)
    for mech in ("CRAM-MD5", "SCRAM-SHA-1"):
        number = len(found) + 1
        client = sasl.client(mech, "joe@x", Secret("secret"))
        assert client is not None
        first = client.initial()
        response = f"\tresp={base64.b64encode(first).decode()}" if first else ""
        peer.send(f"AUTH\t{number}\t{mech}\tservice=imap\tfinal-resp-ok{response}")
        while (line := peer.line()).startswith("CONT"):
            answer = client.respond(base64.b64decode(line.split("\t")[2]))
            peer.send(f"CONT\t{number}\t{base64.b64encode(answer).decode()}")
        found[number] = [word for word in without_id(line).split("\t") if not word.startswith("resp=")]
    peer.close()
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("settings", [
    {}, {"auth_policy_log_only": True, "auth_policy_server_api_header": "key", "auth_policy_hash_truncate": 0},
    {"auth_policy_check_before_auth": False, "auth_policy_hash_mech": "sha1", "auth_policy_hash_truncate": 16},
    {"auth_policy_check_after_auth": False, "auth_policy_reject_on_fail": True},
], ids=",".join)
def test_the_same_questions_and_answers(settings: dict[str, Any]) -> None:
    results = []
    for start in (dovecot, ours):
        server = PolicyServer()
        with tempfile.TemporaryDirectory(prefix="mailproxy-policy-") as directory, \
                _started(start, scenario(server.server_address[1], **settings), Path(directory)):
            answers = _conversation(f"{directory}/run/auth-client")
            results.append((answers, server.quiet()))
        server.stop()
    (theirs, their_asked), (mine, my_asked) = results
    assert mine == theirs
    assert [row for row in my_asked if row not in their_asked] == []
    assert [row for row in their_asked if row not in my_asked] == []
    assert my_asked == their_asked


def _started(start: Any, made: Scenario, directory: Path) -> Any:
    return start(made, directory, WORKERS + 1) if start is ours else start(made, directory)


@contextlib.contextmanager
def _running(**settings: Any) -> Iterator[Ours]:
    port = settings.pop("port")
    with tempfile.TemporaryDirectory(prefix="mailproxy-policy-") as directory, \
            ours(scenario(port, **settings), Path(directory), workers=3) as process:
        yield process


def test_a_slow_server_keeps_nobody_longer_than_it_may(server: PolicyServer) -> None:
    with _running(port=server.server_address[1], auth_policy_server_timeout_msecs=200) as process:
        peer = Peer(process.path("auth-client"))
        begun = time.monotonic()
        assert peer.auth("slow@x", "secret").startswith("OK\tuser=slow@x")
        assert time.monotonic() - begun < 0.9
        assert "Policy server HTTP error: " in process.log()
        peer.close()


def test_a_server_that_is_not_there_and_comes_back(server: PolicyServer) -> None:
    port = server.server_address[1]
    server.stop()
    with _running(port=port, auth_policy_reject_on_fail=True) as process:
        peer = Peer(process.path("auth-client"))
        assert peer.auth("joe@x", "secret") == "FAIL\tuser=joe@x"
        assert "Connection refused" in process.log()
        again = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        again.asked = []                                    # type: ignore[attr-defined]
        threading.Thread(target=again.serve_forever, daemon=True).start()
        assert peer.auth("joe@x", "secret").startswith("OK\tuser=joe@x")
        peer.close()
        again.shutdown()
        again.server_close()


def test_hashes_and_attributes() -> None:
    assert digest("sha256", "", 12, "joe", "").startswith("0")
    assert len(digest("sha256", "n", 0, "joe", "x")) == len(digest("sha256", "n", 256, "joe", "x")) == 64
    assert digest("sha256", "n", 16, "joe", "x") == digest("sha256", "n", 0, "joe", "x")[:4]
    assert [path for path, _ in attributes("b=1 a/c=2 nothing a/b=3")] == [["a", "b"], ["a", "c"], ["b"]]
