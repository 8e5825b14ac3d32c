"""The import directions of the packages: who may know whom, and which parts may not touch the world.

The sources are parsed, not imported; imports inside functions and under TYPE_CHECKING count as well.
"""
from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "mailproxy"
EFFECTS = {"socket", "ssl", "select", "selectors", "os", "time", "logging", "threading", "asyncio", "subprocess"}

#: Longest matching name first.  layer -> what of mailproxy it may import besides itself; the base is free for all.
BASE = ("errors", "secret")
ALLOWED: dict[str, tuple[str, ...]] = {
    "errors": (),
    "secret": (),
    "proto": BASE,
    "sasl": BASE,
    "ipc": BASE,
    "net": ("errors",),
    "net.proxyhdr": BASE,
    "relay": ("errors", "net"),
    "variables": (*BASE, "sasl.md"),
    "config": BASE,
    "log": BASE,
    "login": (*BASE, "variables", "proto", "sasl", "ipc", "net", "relay", "config", "log"),
    "delivery": (*BASE, "variables", "proto", "ipc", "net", "config", "log", "login.arrival", "login.contexts",
                 "login.views"),
    "anvil": (*BASE, "ipc", "log", "net"),
    "auth": (*BASE, "variables", "config", "log", "ipc", "sasl", "net"),
    "master": (*BASE, "config", "ipc.contract", "log", "net.loop", "net.openssl"),
    "admin": (*BASE, "cli", "config", "ipc", "auth.schemes", "master.pidfile"),
    "check": (*BASE, "config", "log", "master", "net", "login", "auth.passdb"),
    "demo": ("errors",),
    "cli": (*BASE, "config", "master", "log"),
}
PURE = ("proto", "sasl", "ipc", "net.proxyhdr")
#: The ends of a pipe between master and child: its one purpose is to carry descriptors.
IMPURE = {"ipc.contract"}


def modules() -> dict[str, Path]:
    """Dotted name below mailproxy -> file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str, path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names of everything that a module imports, with the line; `from a import b` yields a.b."""
    package = ["mailproxy", *name.split(".")] if name else ["mailproxy"]
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def layer_of(name: str, layers: dict[str, tuple[str, ...]] | None = None) -> str:
    """The most special layer that holds the module."""
    known = ALLOWED if layers is None else layers
    return max((layer for layer in known if name == layer or name.startswith(layer + ".")), key=len, default="")


def forbidden(name: str, target: str) -> bool:
    """May `name` not import `target` (both below mailproxy)?"""
    layer = layer_of(name)
    inside = (layer, *ALLOWED[layer])
    return not any(target == allowed or target.startswith(allowed + ".") for allowed in inside)


def violations(name: str, path: Path) -> list[str]:
    found = []
    pure = name not in IMPURE and any(name == layer or name.startswith(layer + ".") for layer in PURE)
    for target, line in imports(name, path):
        where = f"mailproxy/{path.relative_to(PACKAGE)}:{line}"
        top, _, rest = target.partition(".")
        if top == "mailproxy":
            if name and rest and forbidden(name, rest):
                found.append(f"{where}: {layer_of(name)} may not import {rest}")
        elif pure and top in EFFECTS:
            found.append(f"{where}: {layer_of(name)} does no input and output, it may not import {top}")
    return found


@pytest.mark.parametrize("name", sorted(MODULES))
def test_module_imports_only_what_lies_below_it(name: str) -> None:
    assert not name or layer_of(name), f"{name} belongs to no layer: give it one in ALLOWED"
    assert not violations(name, MODULES[name])


def test_passdb_drivers_know_neither_cache_nor_server() -> None:
    above = {"auth.cache", "auth.server", "auth.server_main", "auth.worker_main"}
    for name in MODULES:
        if name.startswith("auth.passdb."):
            for target, line in imports(name, MODULES[name]):
                module = layer_of(target.removeprefix("mailproxy."), dict.fromkeys(MODULES, ()))
                assert module not in above, f"{name}:{line}: {target}"


def test_master_names_roles_only_by_dotted_strings() -> None:
    wanted = ("login", "auth", "proto", "sasl", "relay")
    for name in MODULES:
        if name == "master" or name.startswith("master."):
            for target, line in imports(name, MODULES[name]):
                assert target.removeprefix("mailproxy.").partition(".")[0] not in wanted, f"{name}:{line}: {target}"


def test_every_module_has_a_docstring() -> None:
    for name, path in MODULES.items():
        tree = ast.parse(path.read_bytes())
        if tree.body and name not in {"", *(n for n, p in MODULES.items() if p.name == "__init__.py")}:
            assert ast.get_docstring(tree), f"{path} says nothing about itself"


@pytest.mark.parametrize(("name", "target", "wrong"), [
    ("proto.imap.wire", "errors.ProtocolError", False),
    ("proto.imap.wire", "net.loop.Loop", True),
    ("net.loop", "secret.Secret", True),
    ("net.proxyhdr", "secret.Secret", False),
    ("relay.pump", "net.transport", False),
    ("relay.pump", "proto.imap", True),
    ("auth.passdb.sql", "login.session", True),
    ("login.session", "auth.chain", True),
    ("master.run", "ipc.contract.Child", False),
    ("master.run", "ipc.authwire", True),
    ("master.run", "net.transport", True),
    ("config.load", "configuration", True),
])
def test_the_rule_itself(name: str, target: str, wrong: bool) -> None:
    assert forbidden(name, target) is wrong


def test_relative_imports_are_resolved(tmp_path: Path) -> None:
    path = tmp_path / "session.py"
    path.write_text("from . import ports\nfrom ..auth import chain\nimport socket\n")
    assert [target for target, _ in imports("login.session", path)] == [
        "mailproxy.login.ports", "mailproxy.auth.chain", "socket"]
