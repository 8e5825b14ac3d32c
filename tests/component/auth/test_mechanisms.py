"""Whole conversations of every mechanism with our auth process and with a real Dovecot's: the results must be equal.

The clients are our own client halves; that they speak the mechanisms as others do, Dovecot's success shows.
"""
from __future__ import annotations

import base64
import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailproxy import sasl
from mailproxy.errors import ProtocolError
from mailproxy.sasl.mechanism import ClientMechanism
from mailproxy.secret import Secret
from tests.component.auth.peer import Peer, plain
from tests.component.auth.processes import dovecot, ours
from tests.component.auth.scenario import Passdb, Scenario

#: What `doveadm pw -p secret` makes of itself for user@ex.com.
_USERS = """plain@ex.com:{PLAIN}secret::::::note=1
b64@ex.com:{PLAIN.B64}c2VjcmV0
cram@ex.com:{CRAM-MD5}cd3ba7deaad6e5ca23448ba42e379747a9e0f7f1fbc00c8a81bbaac395731b56
cramb@ex.com:{HMAC-MD5.B64}zTun3qrW5cojRIukLjeXR6ng9/H7wAyKgbuqw5VzG1Y=
digest@ex.com:{DIGEST-MD5}@DIGEST@
scram1@ex.com:{SCRAM-SHA-1}4096,k74kJvtMF/NQn1XIZuwpbg==,j9rK1XDMioSEs2mtZHbOEPudBV0=,wEkQ9DPdXE7aOdvIgkvwuys3zlU=
scram256@ex.com:{SCRAM-SHA-256}4096,d60Ehmh6y8kWUHm49K+2Cg==,udOynJ4WdMr/oL326FLcN0eJdjGJW5TZNwKedGUFrDE=,xxFaIsIWw89TIf8ZCRdKKre0sgrXJVug3F6H1avHs3I=
ssha@ex.com:{SSHA}YixwsuWZrW9ornwPuDMSyNq4QgkwAIoV
blf@ex.com:{BLF-CRYPT}$2y$05$f73Q5aOUBl9Ra4NHSoXO5ueWixrZoV9oNPkjpftaV7vt7kVDFkllW
broken@ex.com:{CRAM-MD5}xyz
proxied@ex.com:{PLAIN}secret::::::proxy=y host=127.0.0.9
"""
_MECHANISMS = ("plain", "login", "cram-md5", "digest-md5", "scram-sha-1", "scram-sha-256", "apop", "anonymous",
               "external", "xoauth2", "oauthbearer")
_NAMES = ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER")
_SOCKETS = ("auth-client", "login/login")


def _scenario() -> Scenario:
    digest = hashlib.md5(b"digest:ex.com:secret").hexdigest()
    return Scenario(
        [Passdb("passwd-file", "@DIR@/masters", master=True, pass_=True), Passdb("passwd-file", "@DIR@/users")],
        {"auth_mechanisms": _MECHANISMS, "auth_master_user_separator": "*", "auth_realms": ("ex.com", "r.ex")},
        {"users": _USERS.replace("@DIGEST@", digest), "masters": "admin@ex.com:{PLAIN}secret\n"})


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Path, Path]]:
    """The directories of the sockets: Dovecot's and ours."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-mech-") as one, \
            tempfile.TemporaryDirectory(prefix="mailproxy-mech-") as other, \
            dovecot(_scenario(), Path(one)) as theirs, ours(_scenario(), Path(other), workers=2):
        yield theirs, Path(other) / "run"


Conversation = tuple[str, Callable[[], ClientMechanism], tuple[str, ...]]


def talk(peer: Peer, made: list[Conversation]) -> list[list[str]]:
    """All conversations at once, since refusals wait; the words of each one's last line."""
    clients = {}
    found = {}
    for number, (mech, make, params) in enumerate(made, 1):
        clients[number] = client = make()
        first = client.initial()
        words = ["AUTH", str(number), mech, "service=imap", "no-penalty", *params]
        if first is not None:
            words.append("resp=" + (base64.b64encode(first).decode() or "="))
        peer.send("\t".join(words))
    while len(found) < len(made):
        line = peer.line()
        assert line != "EOF", "disconnected"
        word, number_text, *rest = line.split("\t")
        number = int(number_text)
        try:
            if word == "CONT":
                answer = clients[number].respond(base64.b64decode(rest[0]))
                peer.send(f"CONT\t{number}\t{base64.b64encode(answer).decode()}")
                continue
            response = next((field for field in rest if field.startswith("resp=")), "")
            if response:
                assert clients[number].respond(base64.b64decode(response[5:])) == b""
                rest[rest.index(response)] = "resp=proof"
            found[number] = [word, *sorted(field for field in rest if field)]
        except ProtocolError as error:
            found[number] = [f"client: {error}"]
    return [found[number] for number in sorted(found)]


def _ask(base: Path, made: list[Conversation]) -> list[list[str]]:
    found = []
    for name in _SOCKETS:
        peer = Peer(str(base / name))
        found += talk(peer, made)
        peer.close()
    return found


def _client(mech: str, user: str, password: str = "secret", authzid: str = "") -> Callable[[], ClientMechanism]:
    def make() -> ClientMechanism:
        found = sasl.client(mech, user, Secret(password), authzid, service="imap", host="mx")
        assert found is not None
        return found
    make.__doc__ = f"{user} {password} {authzid}"
    return make


def _compare(both: tuple[Path, Path], made: list[Conversation]) -> int:
    """How many of them got in, with both alike."""
    theirs, mine = (_ask(base, made) for base in both)
    different = [(mech, make.__doc__, params, one, other) for (mech, make, params), one, other
                 in zip(made * len(_SOCKETS), theirs, mine, strict=True) if one != other]
    assert not different, "\n".join(map(str, different))
    return sum(line[0] == "OK" for line in mine)


@pytest.mark.parametrize("mech", _NAMES)
def test_every_mechanism_with_every_stored_form(both: tuple[Path, Path], mech: str) -> None:
    users = [line.partition(":")[0] for line in _USERS.splitlines()]
    users = [user for user in users if user != "digest@ex.com"] + ["nobody@ex.com", "bad user@ex.com", "PLAIN@ex.com"]
    if "plaintext" in sasl.FLAGS[mech]:         # there it is our temporary failure, and a wrong password with Dovecot
        users.remove("broken@ex.com")
    if mech == "DIGEST-MD5":
        users = [user.partition("@")[0] for user in users] + ["digest"]
    made = [(mech, _client(mech, user, password), params) for user in users for password in ("secret", "wrong")
            for params in ((), ("final-resp-ok",))]
    assert _compare(both, made) >= 8


def test_masters(both: tuple[Path, Path]) -> None:
    made = [(mech, _client(mech, user), ()) for mech in _NAMES
            for user in ("plain@ex.com*admin@ex.com", "plain@ex.com*plain@ex.com", "nobody@ex.com*admin@ex.com",
                         "ssha@ex.com*admin@ex.com")]
    made += [(mech, _client(mech, "admin@ex.com", authzid=user), ())
             for mech in ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256") for user in ("plain@ex.com", "nobody@ex.com")]
    made += [("DIGEST-MD5", _client("DIGEST-MD5", "admin", authzid=user), ()) for user in ("plain@ex.com", "nobody@x")]
    assert _compare(both, made) >= 10


_GS2 = "n,,n=plain@ex.com,r=abc"
_DIGEST = 'username="plain",realm="ex.com",nonce="@NONCE@",cnonce="c",nc=00000001,qop=auth,digest-uri="imap/mx",' \
          "response=00000000000000000000000000000000,charset=utf-8"
#: mechanism -> messages in answer to a challenge (or the initial one), malformed in one way each.
_MALFORMED: dict[str, list[str]] = {
    "PLAIN": ["", "a", "\0a", "\0a\0b\0c", "\0\0", "\0plain@ex.com\0secret\0", "\0plain@ex.com\0a\tb"],
    "CRAM-MD5": ["", "plain@ex.com", "plain@ex.com xyz", "plain@ex.com " + "0" * 31, "plain@ex.com " + "0" * 33,
                 "plain@ex.com " + "z" * 32, " " + "0" * 32, "plain@ex.com\0 " + "0" * 32, "a b@ex.com " + "0" * 32],
    "DIGEST-MD5": ["", "x", "username=plain", _DIGEST, _DIGEST.replace("@NONCE@", "x"), _DIGEST + ',cnonce="d"',
                   _DIGEST.replace('cnonce="c"', 'cnonce=""'), _DIGEST.replace("00000001,", "00000002,"),
                   _DIGEST.replace("qop=auth", "qop=auth-int"), _DIGEST.replace("qop=auth", "qop=x"),
                   _DIGEST.replace("utf-8", "iso-8859-1"), _DIGEST.replace("response=0", "response=x"),
                   _DIGEST.replace('"plain"', '""'), _DIGEST + ",maxbuf=0", _DIGEST + ",maxbuf=x",
                   _DIGEST + ",unknown=thing", _DIGEST + ',realm="other"', _DIGEST.replace('"imap/mx"', '"imap"'),
                   _DIGEST.replace(',digest-uri="imap/mx"', ""), _DIGEST + "\0", _DIGEST.replace(",qop=auth", "")],
    "SCRAM-SHA-256": ["", "n", "n,", "n,,", "n,,n=plain@ex.com", "p=tls-unique,,n=plain@ex.com,r=abc", "x,,n=a,r=b",
                      "n,x,n=plain@ex.com,r=abc", "n,a=,n=plain@ex.com,r=abc", "n,,m=x,n=plain@ex.com,r=abc",
                      "n,,n=pl=ain,r=abc", "n,,x=plain@ex.com,r=abc", "n,,n=plain@ex.com,x=abc",
                      "n,,n=,r=abc", _GS2 + "\0", "n,,n=bad user,r=abc", "n,a=a=2,n=plain@ex.com,r=abc"],
    "XOAUTH2": ["", "user=plain@ex.com", "user=plain@ex.com\1auth=Bearer\1\1", "auth=Bearer secret\1\1",
                "user=\1auth=Bearer secret\1\1", "user=plain@ex.com\1auth=Basic secret\1\1",
                "user=plain@ex.com\1auth=Bearer se cret\1\1", "user=plain@ex.com\1auth=bearer secret\1\1",
                "user=plain@ex.com\1auth=Bearer secret", "user=plain@ex.com\1auth=Bearer secret\1",
                "user=plain@ex.com\1auth=Bearer \1\1", "user=plain@ex.com\1auth=Bearer s\xff\1\1",
                "auth=Bearer secret\1user=plain@ex.com\1\1", "user=plain@ex.com\1x=y\1auth=Bearer secret\1\1"],
    "OAUTHBEARER": ["", "n,,\1auth=Bearer secret\1\1", "n,a=plain@ex.com,\1auth=Bearer secret\1\1",
                    "y,a=plain@ex.com,\1auth=BEARER secret\1\1", "p=x,a=plain@ex.com,\1auth=Bearer secret\1\1",
                    "f,a=plain@ex.com,\1auth=Bearer secret\1\1", "n,a=pl=ain,\1auth=Bearer secret\1\1",
                    "n,a=plain=40ex.com,\1auth=Bearer secret\1\1", "x,a=plain@ex.com,\1auth=Bearer secret\1\1",
                    "n,a=plain@ex.com\1auth=Bearer secret\1\1", "n,a=plain@ex.com,\1auth=Bearer secret",
                    "n,a=plain@ex.com,\1auth=Bearer secret\1", "n,a=plain@ex.com,\1\1", "n,a=plain@ex.com,",
                    "n,a=plain@ex.com,\1host=x\1port=143\1auth=Bearer secret\1\1",
                    "n,a=plain@ex.com,\1auth=Basic secret\1\1", "n,a=,\1auth=Bearer secret\1\1",
                    "n,x=plain@ex.com,\1auth=Bearer secret\1\1"],
    "ANONYMOUS": ["", "me@x", "a\0b"],
    "EXTERNAL": ["", "plain@ex.com", "a\0b"],
    "APOP": ["", "x", "<1.2.3.x@y>\0plain@ex.com\0" + "x" * 16],
}


class _Raw:
    """A client half that says one thing, whatever it is asked."""

    def __init__(self, message: str, first: bool) -> None:
        self._message = message.encode("latin-1")
        self._first = first

    def initial(self) -> bytes | None:
        return self._message if self._first else None

    def respond(self, challenge: bytes) -> bytes:
        nonce = challenge.partition(b'nonce="')[2].partition(b'"')[0]
        return self._message.replace(b"@NONCE@", nonce)


def _raw(message: str, first: bool) -> Callable[[], ClientMechanism]:
    def make() -> ClientMechanism:
        return _Raw(message, first)
    make.__doc__ = repr(message)
    return make


@pytest.mark.parametrize("mech", _MALFORMED)
def test_malformed_messages(both: tuple[Path, Path], mech: str) -> None:
    _compare(both, [(mech, _raw(message, first), ()) for message in _MALFORMED[mech] for first in (False, True)])


_OTP = """CREATE TABLE users (name TEXT, password TEXT);
INSERT INTO users VALUES ('otp@ex.com', '{OTP}sha1 1024 ae6b49aa481f7233 f69fc7f98b8fbf54');
INSERT INTO users VALUES ('lost@ex.com', '{OTP}sha1 1024 aaaa1111 524b0f6bf7145ba4');
INSERT INTO users VALUES ('plain@ex.com', '{PLAIN}test');
"""
_OTP_SQL = """driver = sqlite
connect = @DIR@/users.db
password_query = SELECT name AS user, password FROM users WHERE name = '%u'
update_query = UPDATE users SET password = '%w' WHERE name = '%u' AND name <> 'lost@ex.com'
"""


def _otp(user: str) -> Conversation:
    return "OTP", _client("OTP", user, "test"), ()


def test_one_time_passwords_are_good_for_one_login() -> None:
    made = Scenario([Passdb("sql", "@DIR@/sql.conf")], {"auth_mechanisms": ("otp",), "auth_cache_size": 100_000},
                    {"sql.conf": _OTP_SQL}, sqlite=_OTP)
    with tempfile.TemporaryDirectory(prefix="mailproxy-otp-") as directory, \
            ours(made, Path(directory), workers=2) as process:
        peer = Peer(process.path("auth-client"))
        assert "MECH\tOTP\tdictionary\tactive" in peer.hello
        for sequence in (1023, 1022):
            assert talk(peer, [_otp("otp@ex.com")]) == [["OK", "user=otp@ex.com"]]
            database = sqlite3.connect(f"{directory}/users.db")
            stored = database.execute("SELECT password FROM users WHERE name = 'otp@ex.com'").fetchone()[0]
            database.close()
            assert stored.startswith(f"{{OTP}}sha1 {sequence} ae6b49aa481f7233 ")
        # two at once for what the database holds: one of them
        words = sorted(line[0] for line in talk(peer, [_otp("otp@ex.com"), _otp("otp@ex.com")]))
        assert words == ["FAIL", "OK"]
        # what cannot be written down as used is not accepted
        assert talk(peer, [_otp("lost@ex.com")]) == [["FAIL", "code=temp_fail", "user=lost@ex.com"]]
        assert "changed 0 rows" in process.log()
        assert talk(peer, [_otp("plain@ex.com"), _otp("nobody@ex.com")]) == [
            ["FAIL", "user=plain@ex.com"], ["FAIL", "user=nobody@ex.com"]]
        peer.close()


def test_nobody_learns_who_exists() -> None:
    """Names without a user get a salt as well, and always the same one."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-mech-") as directory, \
            ours(_scenario(), Path(directory), workers=1) as process:
        peer = Peer(process.path("auth-client"))
        salts = []
        for number, user in enumerate(("nobody@ex.com", "nobody@ex.com", "ssha@ex.com", "plain@ex.com", "plain@ex.com",
                                       "other@ex.com"), 1):
            first = base64.b64encode(f"n,,n={user},r=abc".encode()).decode()
            peer.send(f"AUTH\t{number}\tSCRAM-SHA-256\tservice=imap\tresp={first}")
            fields = base64.b64decode(peer.line().split("\t")[2]).decode().split(",")
            assert (len(fields), fields[2]) == (3, "i=4096")
            salts.append(fields[1])
        peer.close()
    assert salts[0] == salts[1]
    assert salts[3] == salts[4]
    assert len(set(salts)) == 4


def test_slow_hashes_do_not_keep_others_waiting() -> None:
    users = "quick@ex.com:{PLAIN}x\n" \
            "slow@ex.com:{BLF-CRYPT}$2y$11$uJ4rkOEDG1Vd9W2OZmZSHe6kGZIYKTmYHBHvXDCr8K6yAjBUd1jwW\n"
    with tempfile.TemporaryDirectory(prefix="mailproxy-mech-") as directory, \
            ours(Scenario([Passdb("passwd-file", "@DIR@/users")], {}, {"users": users}), Path(directory)) as process:
        peer = Peer(process.path("auth-client"))
        peer.send(f"AUTH\t1\tPLAIN\tservice=imap\tresp={plain('slow@ex.com', 'x')}",
                  f"AUTH\t2\tPLAIN\tservice=imap\tresp={plain('quick@ex.com', 'x')}")
        assert peer.line() == "OK\t2\tuser=quick@ex.com"
        assert peer.line().startswith("FAIL\t1\tuser=slow@ex.com")
        peer.close()


def test_nopassword_is_no_password_to_prove() -> None:
    made = Scenario([Passdb("static", "nopassword=y")], {"auth_mechanisms": ("cram-md5", "scram-sha-1", "plain")})
    with tempfile.TemporaryDirectory(prefix="mailproxy-mech-") as directory, ours(made, Path(directory)) as process:
        peer = Peer(process.path("auth-client"))
        assert talk(peer, [(mech, _client(mech, "joe@ex.com", ""), ()) for mech in ("CRAM-MD5", "SCRAM-SHA-1")]) == [
            ["FAIL", "user=joe@ex.com"]] * 2
        peer.close()
