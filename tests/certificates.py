"""Certificates for tests: a small authority that signs what a test asks for, as PEM files."""
from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)
_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Pair:
    """Two PEM files."""

    certificate: Path
    key: Path


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """Issues certificates into one directory.  `authority` is the PEM file that clients are given to trust."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = directory / "ca.crt"
        self._name = _named("test authority")
        self._key: _PrivateKey = ec.generate_private_key(ec.SECP256R1())
        self._count = 0
        certificate = self._build(self._name, self._key, [], 30, authority=True)
        self.authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *names: str, kind: str = "ec", days: int = 30, password: bytes | None = None) -> Pair:
        """A pair for host names and addresses (the first one is the common name).  `days` below 0: expired.
        `kind`: "ec" or "rsa".  With `password` the key is encrypted."""
        names = names or ("localhost", "127.0.0.1")
        key: _PrivateKey = (ec.generate_private_key(ec.SECP256R1()) if kind == "ec"
                            else rsa.generate_private_key(65537, 2048))
        certificate = self._build(_named(names[0]), key, list(names), days)
        self._count += 1
        pair = Pair(self.directory / f"{self._count}.crt", self.directory / f"{self._count}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        closed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, closed))
        pair.key.chmod(0o600)
        return pair

    def _build(self, subject: x509.Name, key: _PrivateKey, names: list[str], days: int,
               authority: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 60 * _DAY)
            .not_valid_after(now + days * _DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())
