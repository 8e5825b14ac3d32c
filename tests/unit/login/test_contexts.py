"""Certificates of a service: made once, shared, found by name, renewed in the master and in its children."""
from __future__ import annotations

import os
import ssl
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailproxy import config
from mailproxy.login import contexts, served
from mailproxy.login import setup as setups
from mailproxy.login.served import Recipe, Served
from mailproxy.login.setup import Setup
from mailproxy.net import tls
from tests.certificates import Authority, Pair


class Site:
    """Files and a configuration with some names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        for name in ("main", "one", "two"):
            self.put(name, self.authority.issue(f"{name}.test"))
        self.conf = directory / "conf"
        self.conf.write_text("protocols = imap\nssl = yes\n" + self.pair("main") + "".join(
            f"local_name {name}.test {{\n{self.pair(name)}}}\n" for name in ("one", "two"))
            + "passdb {\n driver = static\n args = nopassword=y\n}\n")

    def pair(self, name: str) -> str:
        return f"ssl_cert = <{self.directory}/{name}.crt\nssl_key = <{self.directory}/{name}.key\n"

    def put(self, name: str, pair: Pair, *, cert: bool = True, key: bool = True) -> None:
        if cert:
            pair.certificate.rename(self.directory / f"{name}.crt")
        if key:
            pair.key.rename(self.directory / f"{name}.key")

    def prepare(self) -> Setup:
        conf = config.load(str(self.conf))
        service = conf.services["imap-login"]
        return setups.prepare(conf, SimpleNamespace(protocol="imap", name=service.name, chroot=""))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def subject(context: ssl.SSLContext | None, name: str | None = None) -> bytes:
    """DER of the certificate that a server shows."""
    assert context is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    other.check_hostname = False
    other.verify_mode = ssl.CERT_NONE
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = other.wrap_bio(to_client, to_server, server_hostname=name)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client.getpeercert(binary_form=True) or b""


def look(setup: Setup) -> tuple[list[str], bytes]:
    """One whole look."""
    lines, data = [], b""
    while True:
        news = setup.renew()
        lines += [text for _, text in news.lines]
        data += news.data
        if news.again == contexts.LOOK_EVERY:
            return lines, data


def memory(data: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, data)
    return fd


def test_nothing_new(site: Site) -> None:
    setup = site.prepare()
    assert look(setup) == ([], b"")
    assert look(setup) == ([], b"")


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("name", ["main", "one"])
def test_renewed_in_the_master_and_in_a_child(site: Site, name: str, kind: str) -> None:
    """The child is another Setup of the same files; `shared` would make one of the two."""
    master = site.prepare()
    served._known.clear()
    child = site.prepare()
    before = subject(master.contexts.server if name == "main" else master.contexts.for_name("one.test"))
    assert look(master) == ([], b"")
    site.put(name, site.authority.issue("fresh.test", kind=kind))
    lines, data = look(master)
    assert lines == [f"Renewed certificate is in use ({site.directory}/{name}.crt, {site.directory}/{name}.key)"]
    fd = memory(data)
    child.keeper.catch_up(fd)
    child.keeper.catch_up(fd)
    for setup in (master, child):
        shown = subject(setup.contexts.server if name == "main" else setup.contexts.for_name("one.test"))
        assert b"fresh.test" in shown
        assert shown != before
        assert setup.contexts.server is not None
        assert setup.contexts.server.sni_callback is not None
    assert look(master) == ([], b"")
    os.close(fd)


def test_halves_of_records_wait(site: Site) -> None:
    setup = site.prepare()
    served._known.clear()
    child = site.prepare()
    site.put("one", site.authority.issue("fresh.test"))
    _, data = look(setup)
    fd = memory(b"")
    for at in range(0, len(data), 100):
        child.keeper.catch_up(fd)
        assert b"one.test" in subject(child.contexts.for_name("one.test"))
        os.write(fd, data[at:at + 100])
    child.keeper.catch_up(fd)
    assert b"fresh.test" in subject(child.contexts.for_name("one.test"))
    os.close(fd)


def test_certificate_before_its_key(site: Site) -> None:
    setup = site.prepare()
    look(setup)
    fresh = site.authority.issue("fresh.test")
    site.put("one", fresh, key=False)
    assert look(setup) == ([], b"")             # perhaps somebody is about to write the other half
    site.put("one", fresh, cert=False)
    lines, data = look(setup)
    assert data
    assert len(lines) == 1
    assert b"fresh.test" in subject(setup.contexts.for_name("one.test"))


@pytest.mark.parametrize("damage", ["mismatch", "empty", "gone", "nonsense", "huge", "directory"])
def test_a_broken_pair_is_said_once_and_changes_nothing(site: Site, damage: str) -> None:
    setup = site.prepare()
    look(setup)
    path = site.directory / "one.crt"
    path.unlink()
    if damage == "mismatch":
        path.write_bytes((site.directory / "two.crt").read_bytes())
    elif damage == "huge":
        path.write_bytes(b"x" * (served.FILE_MAX + 1))
    elif damage == "directory":
        path.mkdir()
    elif damage != "gone":
        path.write_text("-----BEGIN" * (damage == "nonsense"))
    said = [line for _ in range(5) for line in look(setup)[0]]
    assert len(said) == 1
    assert "Can't use the renewed certificate" in said[0]
    assert f"{site.directory}/one.crt" in said[0]
    assert b"one.test" in subject(setup.contexts.for_name("one.test"))


def test_reloads_and_services_share(site: Site) -> None:
    one, two = site.prepare(), site.prepare()
    assert one.contexts.for_name("one.test") is two.contexts.for_name("one.test")
    assert one.contexts.server is not two.contexts.server
    site.put("one", site.authority.issue("fresh.test"))
    for setup in (one, two):                    # each has children of its own to tell
        lines, data = look(setup)
        assert len(lines) == 1
        assert data
    assert site.prepare().contexts.for_name("one.test") is one.contexts.for_name("one.test")


def test_many_names_are_made_when_asked_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "EAGER", 1)
    served._known.clear()
    setup = site.prepare()
    items = setup.contexts.by_name
    assert [item._context for item in items.values()] == [None, None]
    assert b"one.test" in subject(setup.contexts.server and setup.contexts.for_name("ONE.test"))
    assert [item._context is None for item in items.values()] == [False, True]
    look(setup)                                 # the master's spare time
    assert [item._context is None for item in items.values()] == [False, False]


def test_a_broken_one_of_many_is_said_and_the_main_one_serves(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "EAGER", 1)
    (site.directory / "one.crt").write_bytes((site.directory / "two.crt").read_bytes())
    setup = site.prepare()
    assert any("Key is for a different cert" in line or "Can't" in line for line in look(setup)[0])
    assert setup.contexts.for_name("one.test") is None
    site.put("one", site.authority.issue("fresh.test"))
    look(setup)
    assert b"fresh.test" in subject(setup.contexts.for_name("one.test"))


def test_contexts_are_limited(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "KEPT", 2)
    pair = site.authority.issue("x")
    recipe = Recipe(tls.Options(), (tls.Pair(pair.certificate.read_text(), pair.key.read_text()),), (("", ""),))
    served._kept.clear()
    some = [Served(recipe) for _ in range(5)]
    for item in some:
        item.context()
    assert [item._context is not None for item in some] == [False, False, False, True, True]
    assert subject(some[0].context())


def test_secrets_have_no_repr(site: Site) -> None:
    setup = site.prepare()
    item: Any = next(iter(setup.contexts.by_name.values()))
    text = repr(item.recipe) + repr(item) + repr(item.recipe.pairs)
    assert "PRIVATE" not in text


def test_a_worker_in_a_chroot_has_a_place_for_files(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = site.prepare()
    setup.keeper._work = str(site.directory / "work")
    look(setup)
    assert os.stat(site.directory / "work").st_mode & 0o7777 == 0o1733
    monkeypatch.setattr(tls, "_MEMORY", "/nonexistent")
    monkeypatch.setattr(tls, "WORK", str(site.directory / "work"))
    recipe = next(iter(setup.contexts.by_name.values())).recipe
    assert subject(Served(recipe).context())
    assert os.listdir(site.directory / "work") == []


def test_files_of_dead_workers_go(site: Site) -> None:
    work = site.directory / "work"
    work.mkdir()
    for name, age in (("old", 2 * contexts.STALE), ("new", 0.0)):
        (work / name).write_text("key")
        os.utime(work / name, (time.time() - age,) * 2)
    setup = site.prepare()
    setup.keeper._work = str(work)
    look(setup)
    assert os.listdir(work) == ["new"]


def test_a_worker_without_a_place_for_files_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = site.prepare()
    served._known.clear()
    child = site.prepare()
    site.put("one", site.authority.issue("fresh.test"))
    fd = memory(look(setup)[1])
    monkeypatch.setattr(tls, "_MEMORY", "/nonexistent")
    monkeypatch.setattr(tls, "WORK", "/nonexistent")
    assert ["Can't use the renewed certificate" in text for text in child.keeper.catch_up(fd)] == [True]
    assert b"one.test" in subject(child.contexts.for_name("one.test"))
    os.close(fd)
