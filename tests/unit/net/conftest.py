"""TLS contexts for tests of connections."""
from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from mailproxy.net import tls
from tests.certificates import Authority
from tests.unit.net.drive import Driver


@pytest.fixture(scope="session")
def contexts(authority: Authority) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server, client) that trust each other as mailproxy makes them."""
    pair = authority.issue("localhost", "127.0.0.1")
    server = tls.server_context(tls.Options(), [tls.Pair(pair.certificate.read_text(), pair.key.read_text())])
    return server, tls.client_context(tls.Options(), verify=True, ca=authority.authority.read_text())


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.loop.close()
