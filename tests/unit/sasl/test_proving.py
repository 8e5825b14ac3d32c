"""Mechanisms that prove a password without telling it: vectors of their RFCs, both halves against each other, junk."""
from __future__ import annotations

import base64
import hashlib
import hmac
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailproxy.auth import schemes
from mailproxy.errors import ProtocolError
from mailproxy.sasl import bearer, client, cram_md5, digest_md5, md, otp, plain, scram
from mailproxy.sasl.mechanism import Answer, Challenge, Credentials, Refusal, ServerMechanism, Verdict, Wanted
from mailproxy.secret import Secret

_NAMES = st.text(st.characters(min_codepoint=33, exclude_characters="\x7f@*", exclude_categories=("Cs",)), min_size=1,
                 max_size=20)
_PASSWORDS = st.text(st.characters(min_codepoint=1, exclude_categories=("Cs",)), max_size=80)


def server(mech: str) -> ServerMechanism:
    made: dict[str, ServerMechanism] = {
        "CRAM-MD5": cram_md5.Server(b"<1.2@h>"), "DIGEST-MD5": digest_md5.Server(("r",), "nonce"),
        "OTP": otp.Server(otp.Register()), "XOAUTH2": bearer.XOAuth2Server(), "OAUTHBEARER": bearer.OAuthBearerServer()}
    return made.get(mech) or scram.Server(mech, b"servernonce", b"key")


def talk(mech: str, user: str, password: str, held: str | None, authzid: str = "") -> tuple[Wanted, Verdict]:
    """A conversation about what is stored; the client half has to like the last words of a server that let it in."""
    theirs, mine = server(mech), client(mech, user, Secret(password), authzid)
    assert mine is not None
    wanted: Wanted | None = None
    answer: Answer = theirs.respond(mine.initial())
    for _ in range(5):
        if isinstance(answer, Wanted):
            wanted = answer
            name = answer.authcid if answer.realm is None else f"{answer.authcid}@{answer.realm}"
            data = None if held is None else schemes.held(held, answer.scheme, name, b"salt" * 4)
            answer = theirs.check(data)                     # type: ignore[attr-defined]
        elif isinstance(answer, Challenge):
            answer = theirs.respond(mine.respond(answer.data))
        else:
            break
    assert isinstance(answer, Verdict)
    assert wanted is not None
    if answer.data:
        assert mine.respond(answer.data) == b""
    return wanted, answer


@pytest.mark.parametrize("mech", ["CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
@settings(max_examples=25, deadline=None)
@given(user=_NAMES, password=_PASSWORDS, other=_PASSWORDS)
def test_the_halves_agree_for_the_right_password_alone(mech: str, user: str, password: str, other: str) -> None:
    wanted, verdict = talk(mech, user, password, "{PLAIN}" + password)
    assert verdict.right
    assert wanted.authcid == (f"{user}@r" if mech == "DIGEST-MD5" else user)
    assert talk(mech, user, other, "{PLAIN}" + password)[1].right == (other == password)
    assert not talk(mech, user, password, None)[1].right


@pytest.mark.parametrize("mech", ["DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_somebody_else_is_asked_for(mech: str) -> None:
    wanted, verdict = talk(mech, "adm,in=", "x", "{PLAIN}x", "jo,e=")
    assert (verdict.right, wanted.authzid) == (True, "jo,e=")
    cram = client("CRAM-MD5", "admin", Secret("x"), "joe")
    assert cram is not None
    with pytest.raises(ProtocolError):
        cram.respond(b"<x>")


def test_digest_md5_names_with_a_domain_keep_the_realm_behind_it() -> None:
    wanted, verdict = talk("DIGEST-MD5", "joe@ex.com", "x", "{PLAIN}x")
    assert (verdict.right, wanted.realm) == (True, "r")


def test_cram_md5_of_rfc_2195() -> None:
    half = cram_md5.Client("tim", Secret("tanstaaftanstaaf"))
    assert half.respond(b"<1896.697170952@postoffice.reston.mci.net>") == b"tim b913a602c7eda7a495b4e6e7334d3890"


def test_scram_of_rfc_5802_and_7677() -> None:
    for mech, first, rest, challenge, proof, signature in (
            ("SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j", "QSXCR+Q6sek8bf92",
             "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "rmF9pqV8S7suAoZWja4dJRkFsKQ="),
            ("SCRAM-SHA-256", "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "W22ZaJ0SNY7soEsUEjb6gQ==",
             "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")):
        half = scram.Client(mech, "user", Secret("pencil"), "", first)
        assert half.initial() == f"n,,n=user,r={first}".encode()
        answer = half.respond(f"r={first}{rest},s={challenge},i=4096".encode())
        assert answer == f"c=biws,r={first}{rest},p={proof}".encode()
        assert half.respond(f"v={signature}".encode()) == b""
        other = scram.Server(mech, rest.encode(), b"")
        assert isinstance(other.respond(half.initial()), Wanted)
        held = scram.stored(scram.HASHES[mech], b"pencil", base64.b64decode(challenge))
        assert isinstance(other.check(held), Challenge)
        verdict = other.respond(answer)
        assert isinstance(verdict, Verdict)
        assert (verdict.right, verdict.data) == (True, f"v={signature}".encode())


def test_digest_md5_of_rfc_2831() -> None:
    half = digest_md5.Client("chris", Secret("secret"), "", "imap/elwood.innosoft.com", "OA6MHXh6VqTrRk")
    answer = half.respond(b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,'
                          b"charset=utf-8")
    assert b"response=d388dad90d4bbd760a152321f2143af7" in answer
    assert half.respond(b"rspauth=ea40f60335c427b5527b84dbabcdfffd") == b""


@pytest.mark.parametrize(("algorithm", "sequence", "value", "words"), [     # RFC 2289, appendix C
    ("md4", 0, "d1854218ebbb0b51", "ROME MUG FRED SCAN LIVE LACE"),
    ("md5", 0, "9e876134d90499dd", "INCH SEA ANNE LONG AHEM TOUR"),
    ("md5", 99, "50fe1962c4965880", "BAIL TUFT BITS GANG CHEF THY"),
    ("sha1", 0, "bb9e6ae1979d8ff4", "MILT VARY MAST OK SEES WENT"),
    ("sha1", 99, "87fec7768b73ccf9", "GAFF WAIT SKID GIG SKY EYED")])
def test_one_time_passwords_of_rfc_2289(algorithm: str, sequence: int, value: str, words: str) -> None:
    made = otp.password(algorithm, sequence, "TeSt", b"This is a test.")
    assert (made.hex(), otp.to_words(made), otp.from_words(words.lower())) == (value, words, made)


@pytest.mark.parametrize("kind", ["hex", "word", "init-hex", "init-word"])
def test_otp_takes_every_form_of_answer(kind: str) -> None:
    half = otp.Server(otp.Register())
    assert isinstance(half.respond(b"\0joe"), Wanted)
    assert isinstance(half.check(b"sha1 1024 ae6b49aa481f7233 f69fc7f98b8fbf54"), Challenge)
    value = otp.password("sha1", 1023, "ae6b49aa481f7233", b"test")
    fresh = otp.password("md5", 500, "abc", b"test")
    say = bytes.hex if kind.endswith("hex") else otp.to_words
    message = f"{kind}:{say(value)}" + (f":md5 500 abc:{say(fresh)}" if kind.startswith("init") else "")
    verdict = half.respond(message.encode())
    assert isinstance(verdict, Verdict)
    assert verdict.right
    assert verdict.replacement == (f"{{OTP}}md5 500 abc {fresh.hex()}" if kind.startswith("init")
                                   else f"{{OTP}}sha1 1023 ae6b49aa481f7233 {value.hex()}")


@pytest.mark.parametrize("message", ["", "hex:", "hex:xyz", "word:A B C", "word:ROME MUG FRED SCAN LIVE LIVE", "x:y",
                                     "init-hex:b0632042877426f5", "init-hex:b0632042877426f5:md9 1 x:00",
                                     "init-hex:b0632042877426f5:md5 1 x:0000000000000000"])
def test_otp_refuses_the_rest(message: str) -> None:
    half = otp.Server(otp.Register())
    half.respond(b"\0joe")
    half.check(b"sha1 1024 ae6b49aa481f7233 f69fc7f98b8fbf54")
    assert isinstance(half.respond(message.encode()), Refusal)


@settings(max_examples=60, deadline=None)
@given(key=st.binary(max_size=200), message=st.binary(max_size=200))
def test_hmac_md5_from_its_contexts(key: bytes, message: bytes) -> None:
    assert md.hmac_md5_resume(md.hmac_md5_contexts(key), message) == hmac.digest(key, message, "md5")


def test_md4_of_rfc_1320() -> None:
    for text, value in (("", "31d6cfe0d16ae931b73c59d7e0c089c0"), ("abc", "a448017aaf21d8525fc10ae87aa6729d"),
                        ("1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536")):
        assert md.md4(text.encode()).hex() == value


@pytest.mark.parametrize("mech", ["CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "OTP", "XOAUTH2",
                                  "OAUTHBEARER"])
@settings(max_examples=60, deadline=None)
@given(messages=st.lists(st.binary(max_size=60) | st.sampled_from([
    b"n,,n=joe,r=a", b"c=biws,r=aservernonce,p=AAAA", b"\0joe", b"hex:0000000000000000",
    b'username="joe",nonce="nonce",cnonce="c",response=00000000000000000000000000000000']), min_size=1, max_size=4))
def test_junk_is_refused_and_never_right(mech: str, messages: list[bytes]) -> None:
    half = server(mech)
    held = {"OTP": b"sha1 1024 ae6b49aa481f7233 f69fc7f98b8fbf54", "CRAM-MD5": bytes(32), "DIGEST-MD5": bytes(16)}
    for message in messages:
        answer = half.respond(message)
        if isinstance(answer, Wanted):
            answer = half.check(held.get(mech, b"4096,AAAA,AAAA,AAAA"))     # type: ignore[attr-defined]
        assert not isinstance(answer, Verdict) or not answer.right
        if not isinstance(answer, Challenge):
            break


@pytest.mark.parametrize("mech", ["DIGEST-MD5", "SCRAM-SHA-256", "OTP", "CRAM-MD5"])
@settings(max_examples=40, deadline=None)
@given(challenges=st.lists(st.binary(min_size=1, max_size=60) | st.sampled_from([
    b"r=x,s=AAAA,i=4096", b"r=,s=AAAA,i=999999999", b'nonce="a",algorithm=md5-sess', b"v=AAAA", b"rspauth=0",
    b"otp-md5 99999 a ext"]), min_size=2, max_size=3))
def test_client_halves_end_with_servers_that_talk_junk(mech: str, challenges: list[bytes]) -> None:
    half = client(mech, "joe", Secret("x"))
    assert half is not None
    with pytest.raises(ProtocolError):
        deque(map(half.respond, [*challenges, b"more", b"and more"]), maxlen=0)


@settings(max_examples=40, deadline=None)
@given(user=_NAMES, token=st.from_regex(r"\A[A-Za-z0-9._~+/-]+=*\Z"))
def test_bearer_halves_agree(user: str, token: str) -> None:
    for mech in ("XOAUTH2", "OAUTHBEARER"):
        half = client(mech, user, Secret(token), host="mx", port=143)
        assert half is not None
        answer = server(mech).respond(half.initial())
        assert isinstance(answer, Credentials)
        assert (answer.authcid, answer.password.reveal()) == (user, token)


def test_plain_keeps_what_is_stored_apart_from_what_is_wanted() -> None:
    assert schemes.fits("{SSHA}YixwsuWZrW9ornwPuDMSyNq4QgkwAIoV", "CRAM-MD5") == \
        "Requested CRAM-MD5 scheme, but we have only SSHA"
    assert not schemes.fits("{CRAM-MD5}" + "0" * 64, "CRAM-MD5")
    assert not schemes.fits("{HMAC-MD5}" + "0" * 64, "CRAM-MD5")
    assert schemes.fits("{PLAIN}x", "OTP")
    assert schemes.held("{PLAIN.HEX}78", "PLAIN") == b"x"
    assert schemes.held("{PLAIN}x", "DIGEST-MD5", "a@b@c") == hashlib.md5(b"a@b:c:x").digest()
    assert isinstance(plain.Server().respond(b"x"), Refusal)
