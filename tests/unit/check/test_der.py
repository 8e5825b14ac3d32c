"""The few facts that a check wants from a certificate, and what is none."""
from __future__ import annotations

import base64
import datetime
import tempfile
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from mailproxy.check.der import MAX_CERTIFICATES, certificates
from tests.certificates import Authority


def pem(data: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(data).decode()}-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_certificate(kind: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    text = authority.issue("mail.example.org", kind=kind, days=9).certificate.read_text()
    row, = certificates(text)
    real = x509.load_pem_x509_certificate(text.encode())
    assert row.name == "mail.example.org"
    assert row.ends == real.not_valid_after_utc
    assert row.begins == real.not_valid_before_utc
    assert datetime.timedelta(days=8) < row.ends - datetime.datetime.now(datetime.UTC) < datetime.timedelta(days=10)
    chain = list(certificates(text + "between\n" + authority.authority.read_text()))
    assert [one.name for one in chain] == ["mail.example.org", "test authority"]
    assert not list(certificates(authority.issue().key.read_text()))


def test_a_bundle_is_bounded(tmp_path: Path) -> None:
    text = Authority(tmp_path).issue().certificate.read_text()
    assert len(list(certificates(text * (MAX_CERTIFICATES + 5)))) == MAX_CERTIFICATES


@pytest.mark.parametrize("text", [
    pem(b""), pem(b"0"), pem(b"0\x82"), pem(b"0\x03\x02\x01\x01"), "-----BEGIN CERTIFICATE-----\n%%%%"
    "\n-----END CERTIFICATE-----\n", pem(bytes(64))])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        list(certificates(text))


@cache
def real() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        return x509.load_pem_x509_certificate(Authority(Path(directory)).issue().certificate.read_bytes()).public_bytes(
            serialization.Encoding.DER)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), st.binary(max_size=3))
def test_a_damaged_one_is_refused_or_read(at: int, noise: bytes) -> None:
    data = real()[:at] + noise + real()[at + len(noise):]
    for text in (pem(data), pem(real()[:at])):
        assert read(text) in (1, 0)


def read(text: str) -> int:
    """How many certificates; 0: it is none.  Anything but ValueError is a bug."""
    try:
        return len(list(certificates(text)))
    except ValueError:
        return 0
