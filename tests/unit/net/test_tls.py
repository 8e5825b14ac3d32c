"""TLS contexts from PEM texts: what works, and the words of what does not."""
from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from mailproxy.net import tls
from mailproxy.net.tls import BadTls, Options, Pair
from mailproxy.net.transport import Tls
from tests.certificates import Authority
from tests.unit.net.drive import plain_end, shake, tcp_pair


def pair_of(authority: Authority, *names: str, kind: str = "ec", password: bytes | None = None) -> Pair:
    issued = authority.issue(*names, kind=kind, password=password)
    return Pair(issued.certificate.read_text(), issued.key.read_text(), password.decode() if password else "")


def connect(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> tuple[Tls, Tls]:
    near, far = tcp_pair()
    one = Tls(plain_end(near), server, server_side=True)
    other = Tls(plain_end(far), client, server_side=False, name=name)
    try:
        shake(one, other)
    except BaseException:
        one.close()
        other.close()
        raise
    return one, other


def common_name(link: Tls) -> str:
    certificate = link.sock.getpeercert() or {}
    return dict(pair[0] for pair in certificate["subject"])["commonName"]  # type: ignore[misc,union-attr]


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_pair_works(authority: Authority, kind: str) -> None:
    server = tls.server_context(Options(), [pair_of(authority, "localhost", kind=kind)])
    client = tls.client_context(Options(), verify=True, ca=authority.authority.read_text())
    one, other = connect(server, client)
    assert one.sock.version() == "TLSv1.3"
    assert common_name(other) == "localhost"
    one.close()
    other.close()


def test_two_key_types_side_by_side(authority: Authority) -> None:
    server = tls.server_context(Options(), [pair_of(authority, "rsa.test", kind="rsa"), pair_of(authority, "ec.test")])
    for ciphers, name in (("ECDHE-RSA-AES128-GCM-SHA256", "rsa.test"), ("ECDHE-ECDSA-AES128-GCM-SHA256", "ec.test")):
        client = tls.client_context(Options(cipher_list=ciphers), verify=True, ca=authority.authority.read_text())
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        one, other = connect(server, client, name)
        assert common_name(other) == name
        one.close()
        other.close()


def test_encrypted_key(authority: Authority) -> None:
    good = pair_of(authority, "localhost", password=b"open sesame")
    tls.server_context(Options(), [good])
    for password in ("wrong", ""):
        with pytest.raises(BadTls) as raised:
            tls.server_context(Options(), [Pair(good.cert, good.key, password)])
        assert raised.value.setting == "ssl_key"
        assert "Can't load SSL private key (ssl_key setting)" in str(raised.value)


def test_key_of_another_certificate(authority: Authority) -> None:
    one, other = pair_of(authority, "a"), pair_of(authority, "b")
    with pytest.raises(BadTls, match="Key is for a different cert than ssl_cert"):
        tls.server_context(Options(), [Pair(one.cert, other.key)])
    with pytest.raises(BadTls, match="Key is for a different cert than ssl_alt_cert") as raised:
        tls.server_context(Options(), [one, Pair(one.cert, other.key)])
    assert raised.value.setting == "ssl_alt_key"


@pytest.mark.parametrize(("cert", "setting", "words"), [
    ("", "ssl_cert", "The certificate is empty"),
    (" \n", "ssl_cert", "The certificate is empty"),
    ("nonsense", "ssl_cert", "There is no valid PEM certificate"),
    ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ssl_key", "Can't load SSL"),
    ("\udcff-----BEGIN \0", "ssl_key", "Can't load SSL"),
])
def test_broken_certificates(authority: Authority, cert: str, setting: str, words: str) -> None:
    with pytest.raises(BadTls) as raised:
        tls.server_context(Options(), [Pair(cert, pair_of(authority, "x").key)])
    assert raised.value.setting == setting
    assert words in str(raised.value)


def test_broken_key_is_not_quoted(authority: Authority) -> None:
    with pytest.raises(BadTls) as raised:
        tls.server_context(Options(), [Pair(pair_of(authority, "x").cert, "topsecret")])
    assert "topsecret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(("options", "setting"), [
    (Options(min_protocol="TLSv9"), "ssl_min_protocol"), (Options(cipher_list="NOTHING"), "ssl_cipher_list"),
    (Options(options=("no_ticket", "frobnicate")), "ssl_options"), (Options(curve_list="no-curve"), "ssl_curve_list"),
])
def test_bad_options_name_their_setting(options: Options, setting: str) -> None:
    with pytest.raises(BadTls) as raised:
        tls.client_context(options, verify=False)
    assert raised.value.setting == setting
    assert "_ssl.c" not in str(raised.value)


def test_options_take_effect(authority: Authority) -> None:
    made = tls.server_context(Options(min_protocol="TLSv1.3", options=("no_ticket", "no_compression"),
                                      curve_list="P-384",
                                      prefer_server_ciphers=True), [pair_of(authority, "x")])
    assert made.minimum_version == ssl.TLSVersion.TLSv1_3
    assert made.options & ssl.OP_NO_TICKET
    assert made.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    plain = tls.server_context(Options(), [pair_of(authority, "x")])
    assert not plain.options & ssl.OP_NO_TICKET
    assert not plain.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert plain.minimum_version == ssl.TLSVersion.TLSv1_2


def test_minimum_version_refuses_older_peers(authority: Authority) -> None:
    server = tls.server_context(Options(min_protocol="TLSv1.3"), [pair_of(authority, "localhost")])
    client = tls.client_context(Options(), verify=False)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(Exception, match=r"(?i)version|protocol"):
        connect(server, client)


def test_name_chooses_the_context(authority: Authority) -> None:
    main = tls.server_context(Options(), [pair_of(authority, "main.test")])
    other = tls.server_context(Options(), [pair_of(authority, "other.test")])
    tls.choose_by_name(main, lambda name: other if name == "other.test" else None)
    client = tls.client_context(Options(), verify=True, ca=authority.authority.read_text())
    for name in ("other.test", "main.test"):
        one, far = connect(main, client, name)
        assert common_name(far) == name
        assert tls.server_name(one.sock) == name
        one.close()
        far.close()


def test_without_a_name(authority: Authority) -> None:
    main = tls.server_context(Options(), [pair_of(authority, "main.test")])
    tls.choose_by_name(main, lambda name: None)
    near, far = tcp_pair()
    one = Tls(plain_end(near), main, server_side=True)
    other = Tls(plain_end(far), tls.client_context(Options(), verify=False), server_side=False)
    shake(one, other)
    assert tls.server_name(one.sock) == ""
    one.close()
    other.close()


def test_verification_towards_backends(authority: Authority, tmp_path: Path) -> None:
    server = tls.server_context(Options(), [pair_of(authority, "localhost")])
    directory = tmp_path / "cas"
    directory.mkdir()
    (directory / "deadbeef.0").write_text(authority.authority.read_text())
    (directory / "sub").mkdir()
    for context in (tls.client_context(Options(), verify=True, ca_file=str(authority.authority)),
                    tls.client_context(Options(), verify=True, ca_dir=str(directory)),
                    tls.client_context(Options(), verify=True, ca_dir="/nonexistent",
                                       ca=authority.authority.read_text()),
                    tls.client_context(Options(), verify=False)):
        one, other = connect(server, context)
        one.close()
        other.close()
    trusting = tls.client_context(Options(), verify=True, ca=authority.authority.read_text())
    with pytest.raises(ssl.SSLCertVerificationError) as raised:
        connect(server, trusting, "elsewhere.test")
    assert raised.value.verify_code == 62
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(server, tls.client_context(Options(), verify=True))


@pytest.mark.parametrize(("arguments", "setting"), [
    ({"ca": "nonsense"}, "ssl_ca"), ({"ca_file": "/nonexistent/ca"}, "ssl_client_ca_file"),
    ({"ca": "x", "require_crl": True}, "ssl_ca"),
])
def test_unusable_authorities(arguments: dict[str, object], setting: str) -> None:
    with pytest.raises(BadTls) as raised:
        tls.client_context(Options(), verify=True, **arguments)  # type: ignore[arg-type]
    assert raised.value.setting == setting


def test_client_certificate_is_optional(authority: Authority) -> None:
    server = tls.server_context(Options(), [pair_of(authority, "localhost")], client_ca=authority.authority.read_text(),
                                verify_client=True)
    ca = authority.authority.read_text()
    for pair, expected in ((None, False), (pair_of(authority, "alice"), True)):
        one, other = connect(server, tls.client_context(Options(), verify=True, ca=ca, pair=pair))
        assert bool(one.sock.getpeercert()) is expected
        one.close()
        other.close()


@pytest.mark.parametrize(("name", "found"), [
    ("CN", "commonName"), ("commonName", "commonName"), ("2.5.4.3", "commonName"), ("UID", "userId"),
    ("x500UniqueIdentifier", "x500UniqueIdentifier"), ("emailAddress", "emailAddress"),
    ("serialNumber", "serialNumber")])
def test_subject_fields_have_several_names(name: str, found: str) -> None:
    assert tls.subject_field(name) == found


@pytest.mark.parametrize("name", ["bogus", "", "common name"])
def test_unknown_subject_fields(name: str) -> None:
    with pytest.raises(BadTls, match="Invalid cert_username_field") as raised:
        tls.subject_field(name)
    assert raised.value.setting == "ssl_cert_username_field"


def test_subject_of_a_client(authority: Authority) -> None:
    ca = authority.authority.read_text()
    server = tls.server_context(Options(), [pair_of(authority, "localhost")], client_ca=ca, verify_client=True)
    one, other = connect(server, tls.client_context(Options(), verify=True, ca=ca, pair=pair_of(authority, "alice")))
    assert tls.subject_line(one.sock) == "/CN=alice"
    assert tls.subject_name(one.sock, tls.subject_field("CN")) == "alice"
    assert tls.subject_name(one.sock, tls.subject_field("UID")) == ""
    one.close()
    other.close()


def test_newer_pair_in_a_context_in_use(authority: Authority) -> None:
    old, new, rsa = pair_of(authority, "old"), pair_of(authority, "new"), pair_of(authority, "rsa", kind="rsa")
    server = tls.server_context(Options(), [old])
    client = tls.client_context(Options(), verify=True, ca=authority.authority.read_text())
    client.check_hostname = False
    one, other = connect(server, client)
    tls.load_pairs(server, [new])
    later = connect(server, client)
    assert [common_name(other), common_name(later[1])] == ["old", "new"]
    for link in (one, other, *later):
        link.close()
    assert tls.key_kinds([old]) == tls.key_kinds([new])
    assert tls.key_kinds([old]) != tls.key_kinds([rsa])
    assert tls.key_kinds([rsa, old]) != tls.key_kinds([rsa])
    assert tls.key_kinds([Pair("nonsense", "")]) is None


def test_nothing_stays_open(authority: Authority) -> None:
    pair = pair_of(authority, "x")
    before = len(os.listdir("/proc/self/fd"))
    tls.server_context(Options(), [pair], client_ca=pair.cert, verify_client=True)
    with pytest.raises(BadTls):
        tls.server_context(Options(), [Pair(pair.cert, "x")])
    assert len(os.listdir("/proc/self/fd")) == before
