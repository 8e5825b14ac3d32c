"""passdb oauth2: the same answers as a real Dovecot's for tokens, grants and keys of our own; and servers that
misbehave."""
from __future__ import annotations

import base64
import contextlib
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.certificates import Authority
from tests.component.auth import token_server
from tests.component.auth.peer import Peer, plain, without_id
from tests.component.auth.processes import Ours, dovecot, ours
from tests.component.auth.scenario import Passdb, Scenario
from tests.component.auth.token_server import GRANTS, STATUS, TOKENS, USER, claims, hs256
from tests.fakes.http_answers import Answer, Asked, HttpAnswers, http_answers

Login = tuple[str, str]
_AUTH = "introspection_mode = auth\nintrospection_url = @URL@/introspect\n"
_POST = "introspection_mode = post\nintrospection_url = @URL@/introspect\nclient_id = cid\nclient_secret = c s&c\n"
_ATTRS = "pass_attrs = a=%{oauth2:x} f=%{oauth2:f} n=%{oauth2:n:d} b=%{oauth2:b} m=%{oauth2:no:d} x=pre-%$ z=%u\n"
_ALL = [(USER, token) for token in (*TOKENS, *STATUS)]
CASES: dict[str, tuple[str, list[Login]]] = {
    "auth": (_AUTH + "scope = mail\n" + _ATTRS, _ALL),
    "post": (_POST + _ATTRS, _ALL),
    "get": ("introspection_mode = get\nintrospection_url = @URL@/introspect?token=\nclient_id = cid\n", _ALL),
    "tokeninfo": ("tokeninfo_url = @URL@/tokeninfo?token=\n" + _POST, [*_ALL, (USER, "a b+c/d%41é")]),
    "tokeninfo only": ("tokeninfo_url = @URL@/tokeninfo?token=\n", _ALL),
    "forced": ("tokeninfo_url = @URL@/tokeninfo?token=\nforce_introspection = yes\nactive_attribute =\n"
               "active_value =\nsend_auth_headers = yes\n" + _POST, _ALL),
    "two scopes": (_AUTH + "scope = imap mail\n", _ALL),
    "audience": (_AUTH + "audience = mail\n", _ALL),
    "name format": (_AUTH + "username_format = %Ln\n", [(USER, "ok"), ("joe", "ok"), ("joe", "upper"), ("ann", "ok")]),
    "exact name": (_AUTH + "username_format = %u\n", [(USER, "upper"), (USER, "ok")]),
    "proxy": (_AUTH + "pass_attrs = proxy=y host=127.0.0.1 proxy_mech=%m user=%{oauth2:email} userdb_x=5\n",
              [(USER, "ok"), (USER, "other")]),
    "grant": ("grant_url = @URL@/grant\nuse_grant_password = yes\nscope = mail\n"
              "pass_attrs = pass=%{oauth2:access_token}\n" + _POST, [(USER, password) for password in GRANTS]),
    "grant alone": ("grant_url = @URL@/grant\nuse_grant_password = yes\nclient_id = c\nclient_secret = s\n",
                    [(USER, password) for password in GRANTS]),
}
#: (case or "", token) -> our answer, where docs/differences.md says that ours is another.
OURS = {
    ("auth", "s400"): "FAIL\tuser=joe@ex.com", ("auth", "s401"): "FAIL\tuser=joe@ex.com",
    ("two scopes", "s400"): "FAIL\tuser=joe@ex.com", ("two scopes", "s401"): "FAIL\tuser=joe@ex.com",
    ("audience", "s400"): "FAIL\tuser=joe@ex.com", ("audience", "s401"): "FAIL\tuser=joe@ex.com",
    ("", "invalid"): "FAIL\tuser=joe@ex.com",
    ("audience", "listaudience"): "OK\tuser=joe@ex.com\ttoken=listaudience",
    ("auth", "listaudience"): "OK\tuser=joe@ex.com\ta\tf\tn=d\tb\tm=d\tx=pre-\tz=joe@ex.com\ttoken=listaudience",
    ("tokeninfo only", "s404"): "FAIL\tuser=joe@ex.com\tcode=temp_fail",
    ("tokeninfo", "s404"): "FAIL\tuser=joe@ex.com\tcode=temp_fail",
    ("forced", "s404"): "FAIL\tuser=joe@ex.com\tcode=temp_fail",
}


def scenario(conf: str, url: str = "", **settings: Any) -> Scenario:
    return Scenario([Passdb("oauth2", "@DIR@/oauth2.conf")], {"auth_verbose": True, **settings},
                    {"oauth2.conf": conf.replace("@URL@", url) + "\n"})


def ask(base: Path, logins: list[Login]) -> dict[Login, str]:
    """All at once: refusals are late."""
    peer = Peer(str(base / "login/login"))
    peer.send(*("\t".join(("AUTH", str(number), "PLAIN", "service=imap", "no-penalty", "lip=127.0.0.1", "lport=143",
                           "rip=::1", f"resp={plain(*login)}")) for number, login in enumerate(logins, 1)))
    answers = {}
    for _ in logins:
        line = peer.line()
        answers[logins[int(line.split("\t")[1]) - 1]] = without_id(line)
    peer.close()
    return answers


def compare(scene: Scenario, logins: list[Login], expected: Callable[[str], str | None]) -> int:
    """How many were the same."""
    answers = []
    for start in (dovecot, ours):
        with tempfile.TemporaryDirectory(prefix="mailproxy-auth-") as directory, start(scene, Path(directory)):
            answers.append(ask(Path(directory) / "run", logins))
    theirs, mine = answers
    same = 0
    for login, line in theirs.items():
        wanted = expected(login[1])
        same += wanted is None
        assert set(mine[login].split("\t")) - {""} == set((wanted or line).split("\t")) - {""}, login
    return same


@pytest.mark.parametrize("case", CASES)
def test_same_answers(case: str) -> None:
    conf, logins = CASES[case]
    with http_answers(token_server.PATHS) as server:
        compare(scenario(conf, server.url), logins, lambda token: OURS.get((case, token), OURS.get(("", token))))


def test_same_requests() -> None:
    """What servers are asked is what Dovecot asks them."""
    seen = []
    conf = CASES["forced"][0] + "scope = mail\n"
    grants = CASES["grant"][0]
    for start in (dovecot, ours):
        with http_answers(token_server.PATHS) as server, tempfile.TemporaryDirectory() as one, \
                tempfile.TemporaryDirectory() as two:
            with start(scenario(conf, server.url), Path(one)):
                ask(Path(one) / "run", [(USER, "ok")])
            with start(scenario(grants, server.url), Path(two)):
                ask(Path(two) / "run", [(USER, "p w&d@")])
            seen.append([(asked.method, asked.target, asked.body, asked.headers.get("Content-Type"),
                          asked.headers.get("Authorization"),
                          {name: value for name, value in asked.headers.items() if name.startswith("X-")})
                         for asked in server.asked])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4


def _keys() -> tuple[dict[str, str], dict[str, Any]]:
    private: dict[str, Any] = {"RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
                               "ES256": ec.generate_private_key(ec.SECP256R1())}
    public = {name: key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
              for name, key in private.items()}
    secret = token_server.secret_key()
    return {"default/HS256/default": secret, "cli%2fent/HS256/k%25": secret, "default/HS256/bad": "!!",
            "default/RS256/default": public["RS256"], "default/PS512/default": public["RS256"],
            "default/ES256/default": public["ES256"], "default/ES256/rsa": public["RS256"],
            "default/RS256/bad": "nothing", "default/HS256/pem": public["RS256"]}, private


def _tokens(private: dict[str, Any]) -> dict[str, str]:
    import jwt
    now = int(time.time())
    head = {"alg": "HS256", "typ": "JWT"}
    return {
        "good": hs256(claims()), "forged": hs256(claims(), key=b"x" * 40),
        "RS256": jwt.encode(claims(), private["RS256"], "RS256"),
        "PS512": jwt.encode(claims(), private["RS256"], "PS512"),
        "ES256": jwt.encode(claims(), private["ES256"], "ES256"),
        "wrong kind": jwt.encode(claims(), private["ES256"], "ES256", {"kid": "rsa"}),
        "broken key": jwt.encode(claims(), private["RS256"], "RS256", {"kid": "bad"}),
        "azp": hs256(claims(azp="cli/ent"), {**head, "kid": "k%"}), "no key": hs256(claims(), {**head, "kid": "zz"}),
        "bad key": hs256(claims(), {**head, "kid": "bad"}), "out": hs256(claims(), {**head, "kid": "../HS256/default"}),
        "no kid": hs256(claims(), {**head, "kid": ""}), "dots": hs256(claims(azp="..")),
        "no azp": hs256(claims(azp="")),
        "no sub": hs256(claims(sub=None)), "no exp": hs256(claims(exp=None)), "expired": hs256(claims(exp=now - 9)),
        "not yet": hs256(claims(nbf=now + 500)), "future": hs256(claims(iat=now + 500)), "minus": hs256(claims(exp=-1)),
        "text": hs256(claims(exp=str(now + 600))), "fraction": hs256(claims(exp=now + 600.5)),
        "huge": hs256(claims(exp=10 ** 20)), "no typ": hs256(claims(), {"alg": "HS256"}),
        "at+jwt": hs256(claims(), {"alg": "HS256", "typ": "at+jwt"}),
        "none": hs256(claims(), {"alg": "none", "typ": "JWT"}),
        "no alg": hs256(claims(), {"typ": "JWT"}), "lower": hs256(claims(), {"alg": "hs256", "typ": "JWT"}),
        "unsigned": hs256(claims()).rpartition(".")[0] + ".", "two": "a.b", "four": hs256(claims()) + ".x",
        "junk": "hello", "not base64": "!!.!!.!!", "not json": hs256(b"{x"), "list": hs256([1]),
        "no email": hs256(claims(email=None)), "other": hs256(claims(email="ann@ex.com")),
        "nested": hs256(claims(n={"m": "v"}, arr=["p", "q"], b=True)), "inactive": hs256(claims(active=False)),
        "iss a": hs256(claims(iss="https://a")), "iss c": hs256(claims(iss="https://c")),
        "scope": hs256(claims(scope="a mail")), "scopes": hs256(claims(scope=["a", "mail"])),
        "audiences": hs256(claims(aud=["a", "mail"])), "public": hs256(claims(), {**head, "kid": "other"}),
    }


@pytest.mark.parametrize("more", ["pass_attrs = n=%{oauth2:n} arr=%{oauth2:arr} b=%{oauth2:b} s=%{oauth2:scope}\n",
                                  "issuers = https://a https://b\n", "scope = mail\n", "audience = mail\n"])
def test_same_verdicts_on_tokens_of_our_own_keys(more: str) -> None:
    keys, private = _keys()
    with tempfile.TemporaryDirectory(prefix="mailproxy-keys-") as place:
        token_server.write_keys(Path(place), keys)
        conf = f"introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={place}/\n{more}"
        logins = [(USER, token) for token in _tokens(private).values()]
        assert compare(scenario(conf), logins, lambda _token: None) == len(logins)


def test_stricter_and_better_with_tokens(tmp_path: Path) -> None:
    """What Dovecot does not know how to verify, what must be understood, and an algorithm that is not the key's."""
    import jwt
    large = ec.generate_private_key(ec.SECP384R1())
    pem = large.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    token_server.write_keys(tmp_path / "keys", {
        "default/ES384/default": pem, "default/HS256/default": token_server.secret_key(), "default/HS256/empty": " "})
    conf = f"introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={tmp_path}/keys/\n"
    critical = hs256(claims(), {"alg": "HS256", "typ": "JWT", "crit": ["exp"]})
    empty = hs256(claims(), {"alg": "HS256", "typ": "JWT", "kid": "empty"}, key=b"")
    confused = hs256(claims(), key=pem.encode())
    with ours(scenario(conf), tmp_path) as process:
        got = ask(tmp_path / "run", [(USER, token) for token in (jwt.encode(claims(), large, "ES384"), critical, empty,
                                                                 confused)])
        assert [line.partition("\t")[0] for line in got.values()].count("OK") == 1
        assert got[USER, critical] == got[USER, empty] == got[USER, confused] == "FAIL\tuser=joe@ex.com"
        assert "a secret" not in process.log()


def test_token_is_for_proxies_only(tmp_path: Path) -> None:
    with http_answers(token_server.PATHS) as server, ours(scenario(_AUTH, server.url), tmp_path) as process:
        for name, shown in (("login/login", True), ("auth-client", False)):
            peer = Peer(process.path(name))
            assert ("token=ok" in peer.auth(USER, "ok")) is shown
            peer.close()


@contextlib.contextmanager
def _ours_beside(server: HttpAnswers, conf: str, place: Path) -> Iterator[Ours]:
    """Our processes must not inherit the server's sockets, if it is to be stopped."""
    server.stop()
    with ours(scenario(conf, server.url), place) as process:
        server.start()
        yield process


def test_a_server_that_misbehaves_is_never_a_wrong_password(tmp_path: Path) -> None:
    answers = iter([Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nshort"),
                    Answer(raw=b"\0\1\2junk\r\n\r\n"), Answer(raw=b""), Answer("x" * 1_100_000),
                    Answer('{"a":' * 100_000), Answer(status=302),
                    Answer(headers={f"h{n}": "x" for n in range(200)}),
                    Answer(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 50)])
    with http_answers({"/introspect": lambda _asked: next(answers, Answer(TOKENS["ok"]))}) as server, \
            _ours_beside(server, _AUTH + "timeout_msecs = 2000\n", tmp_path) as process:
        peer = Peer(process.path("login/login"))
        for _ in range(8):
            assert "code=temp_fail" in peer.auth(USER, "ok")
        assert peer.auth(USER, "ok").startswith("OK\t")
        server.stop()
        assert "code=temp_fail" in peer.auth(USER, "ok")
        server.start()
        assert peer.auth(USER, "ok").startswith("OK\t")
        peer.close()


def test_a_server_that_drips_holds_nobody(tmp_path: Path) -> None:
    with http_answers({"/introspect": lambda _asked: Answer(TOKENS["ok"], drip=0.1)}) as server, \
            ours(scenario(_AUTH + "timeout_msecs = 400\n", server.url), tmp_path) as process:
        peer = Peer(process.path("login/login"))
        start = time.monotonic()
        assert "code=temp_fail" in peer.auth(USER, "ok")
        assert "code=temp_fail" in peer.auth(USER, "ok")            # left alone meanwhile
        assert time.monotonic() - start < 3
        assert "timed out" in process.log()
        server.answers["/introspect"] = token_server.about_token
        time.sleep(1.1)
        assert peer.auth(USER, "ok").startswith("OK\t")
        peer.close()


def test_connections_are_kept_and_replaced(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(TOKENS["ok"], close=asked.headers.get("Authorization", "").endswith("close"))
    with http_answers({"/introspect": answer}) as server, _ours_beside(server, _AUTH, tmp_path) as process:
        peer = Peer(process.path("login/login"))
        for _ in range(5):
            assert peer.auth(USER, "ok").startswith("OK\t")
        assert server.connections == 1
        assert peer.auth(USER, "close").startswith("OK\t")
        assert peer.auth(USER, "ok").startswith("OK\t")
        assert server.connections == 2
        server.stop()
        server.start()
        assert peer.auth(USER, "ok").startswith("OK\t")             # the old connection is dead: nobody notices
        peer.close()


def test_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with http_answers(token_server.PATHS, context) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        for number, (more, start) in enumerate((("", "FAIL\tuser=joe@ex.com\tcode=temp_fail"),
                                                (f"tls_ca_cert_file = {authority.authority}\n", "OK\t"),
                                                ("tls_allow_invalid_cert = yes\n", "OK\t"))):
            place = tmp_path / str(number)
            place.mkdir()
            with ours(scenario(_AUTH + more, url), place) as process:
                peer = Peer(process.path("login/login"))
                assert peer.auth(USER, "ok").startswith(start)
                peer.close()


def test_nothing_of_a_user_gets_into_a_header(tmp_path: Path) -> None:
    with http_answers(token_server.PATHS) as server, ours(scenario(_AUTH, server.url), tmp_path) as process:
        peer = Peer(process.path("login/login"))
        tokens = ("a b", "a\x0bb", "ä", "a:b", "", "a=b", '"', "x\x7f")
        assert set(ask(tmp_path / "run", [(USER, token) for token in tokens]).values()) == {"FAIL\tuser=joe@ex.com"}
        assert server.asked == []
        assert peer.auth(USER, base64.b64encode(b"fine").decode()).startswith("FAIL\t")
        assert len(server.asked) == 1
        peer.close()


def test_the_cache_knows_a_token_again_but_no_other(tmp_path: Path) -> None:
    scene = scenario(_AUTH, "", auth_cache_size=100000)
    with http_answers(token_server.PATHS) as server:
        scene.files["oauth2.conf"] = _AUTH.replace("@URL@", server.url)
        with ours(scene, tmp_path) as process:
            peer = Peer(process.path("login/login"))
            for _ in range(3):
                assert peer.auth(USER, "ok").startswith("OK\t")
            assert len(server.asked) == 1
            assert peer.auth(USER, "other") == "FAIL\tuser=joe@ex.com"
            assert peer.auth(USER, "noactive").startswith("OK\t")
            assert len(server.asked) == 3
            peer.close()
