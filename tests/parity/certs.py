"""TLS material for one run: a CA, certificates below it and beside it, and the contexts that use them.

In: a directory.  Out: PEM files NAME.pem and NAME.key there.  P-256 keys, valid for a day.
"""
from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_Key = ec.EllipticCurvePrivateKey
#: name -> (subject alternative names, issuer).  Issuer "" signs itself.
_LEAVES: dict[str, tuple[tuple[str, ...], str]] = {
    "server": (("proxy.test",), "ca"),
    "name": (("backend.test",), "ca"),
    "ip": (("127.0.0.1", "backend.test"), "ca"),
    "foreign": (("127.0.0.1", "backend.test"), "otherca"),
    "self": (("127.0.0.1", "backend.test"), ""),
    "client": (("client.test",), "ca"),
    "badclient": (("client.test",), "otherca"),
}


class Certs:
    """The files and the contexts."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        issuers: dict[str, tuple[x509.Name, _Key]] = {}
        for name in ("ca", "otherca"):
            issuers[name] = self._make(name, (), None)
        for name, (alternatives, issuer) in _LEAVES.items():
            self._make(name, alternatives, issuers.get(issuer))

    def _make(self, name: str, alternatives: tuple[str, ...],
              issuer: tuple[x509.Name, _Key] | None) -> tuple[x509.Name, _Key]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} certificate")])
        signer_name, signer_key = issuer or (subject, key)
        now = datetime.datetime.now(datetime.UTC)
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(signer_name).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
                   .not_valid_after(now + datetime.timedelta(days=1))
                   .add_extension(x509.BasicConstraints(ca=not alternatives, path_length=None), critical=True))
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, alternatives))), False)
        pem = builder.sign(signer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (self.path / f"{name}.pem").write_bytes(pem)
        (self.path / f"{name}.key").write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return subject, key

    def server_context(self, name: str, seen: list[str]) -> ssl.SSLContext:
        """A backend's context; what the proxy asked for (SNI) goes to `seen`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path / f"{name or 'ip'}.pem", self.path / f"{name or 'ip'}.key")
        context.load_verify_locations(self.path / "ca.pem")
        context.verify_mode = ssl.CERT_OPTIONAL

        def remember(_sock: ssl.SSLObject | ssl.SSLSocket, server_name: str | None, _context: ssl.SSLContext) -> None:
            if server_name and not server_name[0].isdigit():    # RFC 6066 forbids addresses; Dovecot sends them
                seen.append(f"sni={server_name}")

        context.sni_callback = remember
        return context

    def client_context(self, name: str) -> ssl.SSLContext:
        """A client's context; it verifies the proxy, so that a wrong certificate would show."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path / "ca.pem")
        if name:
            context.load_cert_chain(self.path / f"{name}.pem", self.path / f"{name}.key")
        return context


def _general(name: str) -> x509.GeneralName:
    if name[0].isdigit():
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)
