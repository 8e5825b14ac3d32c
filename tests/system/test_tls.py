"""TLS settings beside a real Dovecot: what each configuration lets clients do, and certificates that are renewed.

Many configurations live in one server of each kind, each in a `local` block with an address of its own.
"""
from __future__ import annotations

import datetime
import shutil
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.certificates import Authority, Pair
from tests.parity import servers
from tests.parity.certs import Certs

_USUAL = "ssl_cert = <$tls/rsa.crt\nssl_key = <$tls/rsa.key\n"
_EC = "ssl_cert = <$tls/ec.crt\nssl_key = <$tls/ec.key\n"
_ASK = "ssl_verify_client_cert = yes\nssl_ca = <$tls/ca-crl.pem\n"
#: What stands in the block of each address.
CONFIGURATIONS: dict[str, str] = {
    "plain": "",
    "ec": _EC,
    "alt-rsa": _EC + "ssl_alt_cert = <$tls/rsa.crt\nssl_alt_key = <$tls/rsa.key\n",
    "alt-ec": "ssl_alt_cert = <$tls/ec.crt\nssl_alt_key = <$tls/ec.key\n",
    "encrypted": "ssl_cert = <$tls/locked.crt\nssl_key = <$tls/locked.key\nssl_key_password = open sesame\n",
    "chain-and-key": "ssl_cert = <$tls/both.pem\nssl_key = <$tls/both.pem\n",
    "tls13": "ssl_min_protocol = TLSv1.3\n",
    "latest": "ssl_min_protocol = LATEST\n",
    "any": "ssl_min_protocol = ANY\nssl_cipher_list = ALL:@SECLEVEL=0\n",
    "tls1": "ssl_min_protocol = TLSv1\nssl_cipher_list = DEFAULT:@SECLEVEL=0\n",
    "tls1-strict": "ssl_min_protocol = TLSv1\n",
    "tls11": "ssl_min_protocol = TLSv1.1\nssl_cipher_list = DEFAULT:@SECLEVEL=0\n",
    "sslv3": "ssl_min_protocol = SSLv3\nssl_cipher_list = DEFAULT:@SECLEVEL=0\n",
    "one-cipher": "ssl_cipher_list = ECDHE-RSA-AES256-GCM-SHA384\n",
    "two-ciphers": "ssl_cipher_list = ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384\n",
    "server-order": "ssl_cipher_list = ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384\n"
                    "ssl_prefer_server_ciphers = yes\n",
    "server-order-tls13": "ssl_prefer_server_ciphers = yes\n",
    "rsa-exchange": "ssl_cipher_list = AES128-SHA:AES256-SHA\n",
    "high": "ssl_cipher_list = HIGH:!aNULL:!MD5\n",
    "dh": "ssl_dh = <$tls/dh.pem\nssl_cipher_list = DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-SHA\n",
    "no-dh": "ssl_cipher_list = DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256\n",
    "curve-p384": "ssl_curve_list = P-384\n",
    "curve-secp521r1": "ssl_curve_list = secp521r1\n",
    "no-ticket": "ssl_options = no_ticket\n",
    "compression": "ssl_options = compression\n",
    "no-compression": "ssl_options = no_compression\n",
    "ask": _ASK,
    "ask-no-crl": "ssl_verify_client_cert = yes\nssl_ca = <$tls/ca.crt\n",
    "ask-crl-not-required": "ssl_verify_client_cert = yes\nssl_ca = <$tls/ca.crt\nssl_require_crl = no\n",
}
_BLOCK = """
local {address} {{
{settings}
  local_name one.test {{
    ssl_cert = <$tls/one.crt
    ssl_key = <$tls/one.key
  }}
  local_name "*.wild.test second.wild.test" {{
    ssl_cert = <$tls/wild.crt
    ssl_key = <$tls/wild.key
  }}
  local_name "mid.*.test *" {{
    ssl_cert = <$tls/one.crt
    ssl_key = <$tls/one.key
  }}
  local_name exact.wild.test {{
    ssl_cert = <$tls/exact.crt
    ssl_key = <$tls/exact.key
  }}
}}
"""
_GLOBAL = """
passdb {
  driver = static
  args = nopassword=y proxy=y host=127.0.0.1 port=9
}
"""


@dataclass(frozen=True)
class Place:
    """Certificates and addresses of one run."""

    tls: Path
    addresses: dict[str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    tls = tmp_path_factory.mktemp("tls")
    authority = Authority(tls)
    for name, kind, password in (("rsa", "rsa", None), ("ec", "ec", None), ("one", "ec", None), ("wild", "ec", None),
                                 ("exact", "ec", None), ("locked", "rsa", b"open sesame"), ("client", "ec", None),
                                 ("revoked", "ec", None)):
        pair = authority.issue(f"{name}.test", kind=kind, password=password)
        pair.certificate.rename(tls / f"{name}.crt")
        pair.key.rename(tls / f"{name}.key")
    stranger = tls / "stranger"
    stranger.mkdir()
    pair = Authority(stranger).issue("client.test")
    pair.certificate.rename(tls / "stranger.crt")
    pair.key.rename(tls / "stranger.key")
    (tls / "both.pem").write_bytes((tls / "rsa.key").read_bytes() + (tls / "rsa.crt").read_bytes()
                                   + (tls / "ca.crt").read_bytes())
    (tls / "dh.pem").write_text(_FFDHE2048)
    revoked = x509.load_pem_x509_certificate((tls / "revoked.crt").read_bytes())
    (tls / "ca-crl.pem").write_bytes((tls / "ca.crt").read_bytes() + _crl(authority, revoked.serial_number))
    addresses = {name: f"127.0.77.{number}" for number, name in enumerate(CONFIGURATIONS, 1)}
    return Place(tls, addresses)


def _crl(authority: Authority, serial: int) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
    issuer = x509.load_pem_x509_certificate(authority.authority.read_bytes()).subject
    crl = (x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(now)
           .next_update(now + datetime.timedelta(days=7)).add_revoked_certificate(entry)
           .sign(authority._key, hashes.SHA256()))
    return crl.public_bytes(serialization.Encoding.PEM)


#: A group of RFC 7919: to make parameters takes seconds.
_FFDHE2048 = """-----BEGIN DH PARAMETERS-----
MIIBDAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAgICAOE=
-----END DH PARAMETERS-----
"""


@contextmanager
def server(side: str, conf: str, tls: Path,
           settings: str = "service_count = 1\nprocess_min_avail = 4\n") -> Iterator[servers.Server]:
    """One running daemon with the parity tests' base configuration; a process for each client, since Dovecot's
    processes remember the settings of a server name without regard to the address."""
    directory = Path(tempfile.mkdtemp(prefix=f"mp-tls-{side[0]}"))      # pytest's own are too long for sockets' names
    directory.chmod(0o755)
    Certs(directory / "tls")
    try:
        with _running(side, directory, conf.replace("$tls", str(tls)), settings) as running:
            yield running
    finally:
        shutil.rmtree(directory)


@contextmanager
def _running(side: str, directory: Path, conf: str, settings: str) -> Iterator[servers.Server]:
    running = servers.Server(side, directory, conf, "imap", settings, servers.free_ports(("imap", "imaps")))
    try:
        yield running
    finally:
        running.stop()


# --- probes ----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Probe:
    """A client with its limits."""

    ciphers: str = "ALL:@SECLEVEL=0"
    lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1
    highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    curve: str = ""
    name: str = ""
    certificate: str = ""

    def ask(self, address: tuple[str, int], tls: Path) -> str:
        """What a server gave us."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version, context.maximum_version = self.lowest, self.highest
        context.set_ciphers(self.ciphers)
        if self.curve:
            context.set_ecdh_curve(self.curve)
        if self.certificate:
            context.load_cert_chain(tls / f"{self.certificate}.crt", tls / f"{self.certificate}.key")
        try:
            with socket.create_connection(address, 10) as sock, \
                    context.wrap_socket(sock, server_hostname=self.name or None) as link:
                link.settimeout(10)
                greeting = link.recv(4096)      # TLS 1.3 refuses a certificate only after the handshake
                der = link.getpeercert(binary_form=True)
                subject = x509.load_der_x509_certificate(der).subject.rfc4514_string() if der else "nobody"
                cipher = link.cipher()
                assert cipher is not None
                session = link.session
                ticket = session is not None and session.has_ticket
                return f"{link.version()} {cipher[0]} {subject} ticket={ticket} {greeting[:4]!r}"
        except (ssl.SSLError, ConnectionResetError):     # Dovecot closes without an alert
            return "failed"


_12, _13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
_PROBES: dict[str, Probe] = {
    "usual": Probe(),
    "1.0": Probe(highest=ssl.TLSVersion.TLSv1), "1.1": Probe(highest=ssl.TLSVersion.TLSv1_1), "1.2": Probe(highest=_12),
    **{cipher: Probe(f"{cipher}:@SECLEVEL=0", highest=_12) for cipher in (
        "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256",
        "DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-SHA", "AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES256-SHA",
        "ECDHE-RSA-CHACHA20-POLY1305", "AECDH-AES128-SHA", "NULL-SHA", "DHE-RSA-CAMELLIA256-SHA256")},
    "128-first": Probe("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384", highest=_12),
    "256-first": Probe("ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256", highest=_12),
    **{f"curve {curve}": Probe(curve=curve) for curve in ("prime256v1", "secp384r1", "secp521r1")},
    **{f"name {name}": Probe(name=name) for name in (
        "one.test", "ONE.test", "a.wild.test", "a.b.wild.test", "exact.wild.test", "second.wild.test", "wild.test",
        "mid.x.test", "mid.x.y.test", "bare", "nobody.test")},
    **{f"certificate {name}": Probe(certificate=name) for name in ("client", "stranger", "revoked")},
}


def answers(side: str, conf: str, place: Place, addresses: dict[str, str], probes: dict[str, Probe]) -> dict[str, str]:
    """Every probe of every address."""
    with server(side, conf, place.tls) as running:
        port = int(running.names["imaps"])
        return {f"{configuration}: {probe}": how.ask((address, port), place.tls)
                for configuration, address in addresses.items() for probe, how in probes.items()}


def compared(conf: str, place: Place, addresses: dict[str, str],
             probes: dict[str, Probe] = _PROBES) -> dict[str, tuple[str, str]]:
    """What differs: (Dovecot, mailproxy)."""
    theirs, ours = (answers(side, conf, place, addresses, probes) for side in servers.SIDES)
    return {key: (theirs[key], ours[key]) for key in theirs if theirs[key] != ours[key]}


def test_same_answers_as_dovecot(place: Place) -> None:
    blocks = "".join(_BLOCK.format(address=place.addresses[name], settings=_USUAL * ("ssl_cert" not in text) + text)
                     for name, text in CONFIGURATIONS.items())
    listen = f"listen = 127.0.0.1, {', '.join(place.addresses.values())}\n"
    differences = compared(listen + _GLOBAL + blocks, place, place.addresses)
    # the one thing that Python's ssl cannot do: go on in spite of an invalid certificate
    invalid = {f"ask{kind}: certificate {name}" for kind, names in (
        ("", ("stranger", "revoked")), ("-no-crl", ("client", "stranger", "revoked")),
        ("-crl-not-required", ("stranger",))) for name in names}
    assert {key: pair for key, pair in differences.items() if key not in invalid} == {}
    assert {differences[key][1] for key in invalid} == {"failed"}


def test_settings_of_names(place: Place) -> None:
    """The certificate and the ciphers of TLS 1.2 follow the name; the rest is settled before the name is known."""
    names = {"ciphers": "ssl_cipher_list = ECDHE-ECDSA-AES128-GCM-SHA256\n", "version": "ssl_min_protocol = TLSv1.3\n",
             "curve": "ssl_curve_list = P-521\n", "ticket": "ssl_options = no_ticket\n", "off": "ssl = no\n",
             "asks": _ASK, "rsa": _USUAL, "suites": "ssl_cipher_suites = TLS_AES_128_GCM_SHA256\n"}
    conf = _GLOBAL + "".join(f"local_name {name}.test {{\n{text}}}\n" for name, text in names.items())
    probes = {f"{name} {kind}": replace(probe, name=f"{name}.test") for name in names for kind, probe in (
        ("1.2", Probe(highest=_12)), ("curve", Probe(curve="secp384r1")), ("stranger", Probe(certificate="stranger")))}
    assert compared(conf, place, {"names": "127.0.0.1"}, probes) == {}


# --- what holds for the whole process --------------------------------------------------------------------------------

@pytest.mark.parametrize("settings", [
    "ssl_cipher_suites = TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256\n",
    "ssl_curve_list = P-521:P-384\n",
    "ssl_curve_list = X25519\nssl_cipher_suites = TLS_AES_128_GCM_SHA256\n"])
def test_suites_and_curves(place: Place, settings: str) -> None:
    conf = _GLOBAL + settings + _BLOCK.format(address="127.0.0.1", settings=_USUAL)
    assert compared(conf, place, {settings: "127.0.0.1"}) == {}


def test_suites_are_kept_by_a_reload_and_not_changed(place: Place) -> None:
    conf = _GLOBAL + "ssl_cipher_suites = TLS_AES_128_GCM_SHA256\n"
    with server(servers.MAILPROXY, conf, place.tls) as running:
        address = ("127.0.0.1", int(running.names["imaps"]))
        path = Path(running.names["dir"]) / "dovecot.conf"
        text = path.read_text()
        path.write_text(text.replace("AES_128_GCM_SHA256", "AES_256_GCM_SHA384"))
        running._process.send_signal(signal.SIGHUP)
        wait(lambda: "a change needs a restart" in running.log())
        assert "TLS_AES_128_GCM_SHA256" in Probe().ask(address, place.tls)
        path.write_text(text)
        running._process.send_signal(signal.SIGHUP)
        wait(lambda: "Configuration reloaded" in running.log())
        assert "TLS_AES_128_GCM_SHA256" in Probe().ask(address, place.tls)


@pytest.mark.parametrize(("settings", "words"), [
    ("ssl_cipher_suites = TLS_NONSENSE\n", "Can't set ciphersuites to 'TLS_NONSENSE'"),
    ("ssl_cipher_suites = a b\n", "Can't set ciphersuites to 'a b'"),
    ("ssl_curve_list = P-384:nonsense\n", "Failed to set curve list to 'P-384:nonsense'"),
    ("ssl_dh = nonsense\n", "Can't load DH parameters"),
    ("ssl_cert_username_field = nonsense\n", "Invalid cert_username_field: nonsense"),
    ("local_name x { ssl_cert = <$tls/ec.crt\n }\n", "local_name x: Can't load SSL private key"),
    ("local_name x {\n ssl_cert = <$tls/nothing.crt\n }\n", "Can't open file"),
    ("local 127.0.0.9 {\n ssl_cipher_suites = TLS_AES_128_GCM_SHA256\n}\n", "must be the same for all connections"),
])
def test_no_start(place: Place, settings: str, words: str) -> None:
    settings = settings.replace("{ ssl_cert", "{\n ssl_cert")
    with pytest.raises(servers.CannotStart) as raised, \
            server(servers.MAILPROXY, _GLOBAL + settings, place.tls):
        pass
    assert words in str(raised.value)
    assert "Traceback" not in str(raised.value)


# --- renewal ---------------------------------------------------------------------------------------------------------

def wait(done: Callable[[], bool], seconds: float = 40.0) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


def test_renewed_certificates(place: Place, tmp_path: Path) -> None:
    """Files replaced, links switched, another kind of key, a broken pair; all workers, in their chroot, follow."""
    authority = Authority(tmp_path)
    live = tmp_path / "live"
    live.mkdir()

    def put(name: str, pair: Pair, *, linked: bool = False) -> None:
        for suffix, source in (("crt", pair.certificate), ("key", pair.key)):   # the key comes later
            fresh = live / f"{name}.{suffix}.new"
            if linked:
                fresh.symlink_to(source)
            else:
                fresh.write_bytes(source.read_bytes())
            fresh.rename(live / f"{name}.{suffix}")

    names = ("main", "linked", "kind", "broken")
    for name in names:
        put(name, authority.issue(f"{name}1.test", kind="rsa" if name == "kind" else "ec"), linked=name == "linked")
    conf = _GLOBAL + f"ssl_cert = <{live}/main.crt\nssl_key = <{live}/main.key\n" + "".join(
        f"local_name {name} {{\n ssl_cert = <{live}/{name}.crt\n ssl_key = <{live}/{name}.key\n}}\n" for name in names)
    with server(servers.MAILPROXY, conf, place.tls, "service_count = 0\nprocess_min_avail = 2\n"
                "client_limit = 10\n") as running, ExitStack() as stack:
        address = ("127.0.0.1", int(running.names["imaps"]))

        def shown(name: str) -> set[str]:
            """What some connections show; several, so that every worker gets some."""
            with ExitStack() as open_links:
                links = [open_links.enter_context(_link(address, name)) for _ in range(12)]
                ders = [link.getpeercert(binary_form=True) or b"" for link in links]
            return {x509.load_der_x509_certificate(der).subject.rfc4514_string() for der in ders}

        assert [shown(name) for name in names] == [{f"CN={name}1.test"} for name in names]
        old = stack.enter_context(_link(address, "main"))
        assert old.recv(4096).startswith(b"* OK")
        for name in names:
            put(name, authority.issue(f"{name}2.test"), linked=name == "linked")
        (live / "broken.key").write_bytes((live / "main.key").read_bytes())
        wait(lambda: running.log().count("Renewed certificate is in use") == 3
             and "Can't use the renewed certificate" in running.log())
        wait(lambda: [shown(name) for name in names] == [
            {"CN=main2.test"}, {"CN=linked2.test"}, {"CN=kind2.test"}, {"CN=broken1.test"}])
        assert _resumes(address)
        put("broken", authority.issue("broken3.test"))
        wait(lambda: shown("broken") == {"CN=broken3.test"})
        complaints = [line for line in running.log().splitlines() if "Can't use the renewed" in line]
        assert len(complaints) == 1
        assert f"{live}/broken.crt, {live}/broken.key" in complaints[0]
        assert "Key is for a different cert" in complaints[0]
        old.sendall(b"a NOOP\r\n")
        assert old.recv(4096).startswith(b"a OK")
        assert "Panic" not in running.log()


def _link(address: tuple[str, int], name: str, session: ssl.SSLSession | None = None,
          context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    link = context.wrap_socket(socket.create_connection(address, 10), server_hostname=name, session=session)
    link.settimeout(10)
    return link


def _resumes(address: tuple[str, int]) -> bool:
    """Does a ticket of one worker count in all of them?"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _link(address, "main", context=context) as first:
        first.recv(4096)
        session = first.session
    with ExitStack() as stack:
        links = [stack.enter_context(_link(address, "main", session, context)) for _ in range(12)]
        return all(link.session_reused for link in links)
