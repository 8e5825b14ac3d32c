"""What all sessions of a worker share: contexts by address and name, and settings by address."""
from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.errors import ConfigInvalid
from mailproxy.login import setup as setups
from mailproxy.login.setup import Setup
from tests.certificates import Authority

BLOCKS = """
protocols = imap
ssl = yes
ssl_cert = <{main.certificate}
ssl_key = <{main.key}
login_greeting = main
local 127.0.0.2 {{
  ssl_cert = <{second.certificate}
  ssl_key = <{second.key}
  local_name inner.example.com {{
    ssl_cert = <{inner.certificate}
    ssl_key = <{inner.key}
  }}
}}
remote 10.0.0.0/8 {{
  login_greeting = ten
}}
passdb {{
  driver = static
  args = nopassword=y
}}
"""


@pytest.fixture
def prepared(tmp_path: Path) -> Setup:
    authority = Authority(tmp_path)
    pairs = {name: authority.issue(f"{name}.example.com") for name in ("main", "second", "inner")}
    path = tmp_path / "conf"
    path.write_text(BLOCKS.format(**pairs))
    conf = config.load(str(path))
    made = setups.prepare(conf, conf.services["imap-login"])
    for pair in pairs.values():                         # a chrooted worker cannot read them
        pair.certificate.unlink()
        pair.key.unlink()
    return made


def shown(setup: Setup, name: str | None) -> str:
    """The common name of the certificate that a client sees which asks for `name`."""
    assert setup.contexts.server is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    server = setup.contexts.server.wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    der = client.getpeercert(binary_form=True)
    assert der is not None
    found = [word for word in ("main", "second", "inner") if f"{word}.example.com".encode() in der]
    assert len(found) == 1
    return found[0]


def chosen(setup: Setup, local: str, remote: str) -> Setup:
    assert setup.views is not None
    setup.auth = object()  # type: ignore[assignment]
    setup.log = object()  # type: ignore[assignment]
    return setup.views(local, remote)


@pytest.mark.parametrize(("local", "name", "certificate"), [
    ("127.0.0.1", None, "main"), ("127.0.0.1", "inner.example.com", "main"), ("127.0.0.2", None, "second"),
    ("127.0.0.2", "other.example.com", "second")])
def test_certificate_of_the_address(prepared: Setup, local: str, name: str | None, certificate: str) -> None:
    assert shown(chosen(prepared, local, "192.0.2.1"), name) == certificate


def test_name_inside_an_address_has_its_own_context(prepared: Setup) -> None:
    found = chosen(prepared, "127.0.0.2", "192.0.2.1").contexts
    assert found.for_name("INNER.example.com") is not None
    assert found.for_name("INNER.example.com") is not found.server
    assert found.for_name("inner.example.org") is None


@pytest.mark.parametrize(("remote", "greeting"), [("10.1.2.3", "ten"), ("10.255.255.255", "ten"), ("11.0.0.1", "main"),
                                                  ("::1", "main")])
def test_settings_of_the_peer(prepared: Setup, remote: str, greeting: str) -> None:
    assert chosen(prepared, "127.0.0.1", remote).view.login.login_greeting == greeting


def test_same_blocks_same_setup(prepared: Setup) -> None:
    assert chosen(prepared, "127.0.0.1", "10.0.0.1") is chosen(prepared, "127.0.0.1", "10.9.9.9")
    assert chosen(prepared, "127.0.0.1", "192.0.2.1") is prepared


def test_broken_pair_of_an_address_is_found_at_load(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, two = authority.issue("a"), authority.issue("b")
    path = tmp_path / "conf"
    path.write_text(BLOCKS.format(main=one, second=two, inner=one).replace(str(two.key), str(one.key)))
    conf = config.load(str(path))
    with pytest.raises(ConfigInvalid, match="Key is for a different cert"):
        setups.prepare(conf, conf.services["imap-login"])
