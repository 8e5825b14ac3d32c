"""Just enough of X.509: until when a certificate is good, and whose it is.

In: PEM text.  Out: Certificate rows.  ValueError: that is no certificate.  It checks no signature.
"""
from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

#: Bundles of all authorities of the world have some hundred.
MAX_CERTIFICATES = 1000
_PEM = re.compile(r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----(.*?)-----END (?:TRUSTED |X509 )?CERTIFICATE-----",
                  re.DOTALL)
_SEQUENCE, _UTC_TIME, _VERSION = 0x30, 0x17, 0xA0
_COMMON_NAME = bytes.fromhex("0603550403")


class Certificate(NamedTuple):
    name: str
    begins: datetime
    ends: datetime


def certificates(pem: str) -> Iterator[Certificate]:
    for number, found in enumerate(_PEM.finditer(pem)):
        if number == MAX_CERTIFICATES:
            return
        try:
            yield _certificate(base64.b64decode(found[1]))
        except (ValueError, IndexError) as error:
            raise ValueError("not a certificate") from error


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """(tag, where the content begins, where it ends)."""
    tag, size, at = data[at], data[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        size = int.from_bytes(data[at:at + count], "big")
        at += count
    if at + size > len(data):
        raise ValueError("longer than the data")
    return tag, at, at + size


def _certificate(data: bytes) -> Certificate:
    at = _element(data, _element(data, 0)[1])[1]        # into the certificate, into what is signed
    tag, _, end = _element(data, at)
    if tag == _VERSION:
        at = end
    for _ in range(3):                                  # serial number, signature algorithm, issuer
        at = _element(data, at)[2]
    _, begins, validity = _element(data, at)
    middle = _element(data, begins)[2]
    tag, subject, end = _element(data, validity)
    if tag != _SEQUENCE:
        raise ValueError("no subject")
    return Certificate(_name(data[subject:end]), _time(data, begins), _time(data, middle))


def _time(data: bytes, at: int) -> datetime:
    tag, begin, end = _element(data, at)
    text = data[begin:end].decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _name(subject: bytes) -> str:
    at = subject.find(_COMMON_NAME)
    if at < 0:
        return ""
    _, begin, end = _element(subject, at + len(_COMMON_NAME))
    return "".join(char for char in subject[begin:end].decode("utf-8", "replace") if char.isprintable())
