"""A self-signed certificate for the demo's host, made anew when it is missing or about to expire.

In: a directory.  Out: two PEM files in it.  The key is readable by its owner only.
"""
from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailproxy.demo.place import HOST

_DAYS = 90
#: One that is older than this is replaced, so that a demo never runs into the end of it.
_RENEW_AFTER = 60 * 86400.0


def ensure(directory: Path, now: float) -> tuple[Path, Path]:
    """(certificate, key) in `directory`; `now` is the time of day in seconds."""
    crt, key = directory / "demo.crt", directory / "demo.key"
    if not (crt.exists() and key.exists() and now - crt.stat().st_mtime < _RENEW_AFTER):
        _make(crt, key, datetime.datetime.fromtimestamp(now, datetime.UTC))
    return crt, key


def _make(crt: Path, key: Path, start: datetime.datetime) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(hours=1))
        .not_valid_after(start + datetime.timedelta(days=_DAYS))
        .add_extension(names, critical=False)
        # its own issuer: clients are given it as their only authority
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    crt.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
