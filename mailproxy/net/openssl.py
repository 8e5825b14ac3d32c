"""What Python's ssl cannot set on a context: TLS 1.3 cipher suites and lists of curves.

OpenSSL itself can: contexts start with the defaults of its configuration file, which it reads once in the life of a
process, when the first module that uses it is loaded.  So a program that wants other defaults writes such a file,
which includes the system's, and executes itself again.  The file has no name and is gone when it has been read.

In: the wanted defaults.  Out: a new image of the process that has them; whoever uses them asks `in_force`.
It must not know the configuration language, and must not import the ssl module.  Limit: one set of defaults a process.
"""
from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

#: Where OpenSSL looks for its file, and what was there before; what the defaults are.
_FILE, _ORIGINAL, _MARK = "OPENSSL_CONF", "MAILPROXY_OPENSSL_CONF", "MAILPROXY_OPENSSL"
#: The system's own file, if the environment names no other.
_USUAL = ("/usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf")
_WORDS = re.compile(r"[A-Za-z0-9_:.-]*\Z")


class Defaults(NamedTuple):
    """Colon-separated names, "" for OpenSSL's own."""

    suites: str = ""
    curves: str = ""

    def valid(self) -> bool:
        """Nothing in it could end a line of a configuration file."""
        return bool(_WORDS.match(self.suites) and _WORDS.match(self.curves))


_in_force = Defaults()
_settled = False


def in_force() -> Defaults:
    """The defaults that this process was started with."""
    return _in_force


def settle(wanted: Defaults, arguments: Sequence[str]) -> None:
    """Once, before TLS is used: have these defaults, if need be by executing `arguments` from the start.  Whether a
    later configuration wants the same is found out where contexts are made."""
    global _settled
    if not _settled:
        _settled = True
        if not _adopt() and wanted != _in_force and wanted.valid():
            restart(wanted, arguments)


def _adopt() -> bool:
    """Take over what an earlier image of the process has prepared, and tidy the environment up for those whom we
    start.  False: there was nothing."""
    global _in_force
    mark = os.environ.pop(_MARK, None)
    if mark is None:
        return False
    import hashlib
    # whoever had been first: now the file has been read, and may go
    hashlib.md5(b"", usedforsecurity=False)
    path = os.environ.pop(_FILE, "")
    original = os.environ.pop(_ORIGINAL, "")
    if original:
        os.environ[_FILE] = original
    os.close(int(path.rpartition("/")[2]))
    suites, _, curves = mark.partition(" ")
    _in_force = Defaults(suites, curves)
    return True


def restart(defaults: Defaults, arguments: Sequence[str]) -> None:
    """Execute the program again with these defaults; returns only if that fails, with OSError."""
    original = os.environ.get(_FILE, "")
    system = original or next((path for path in _USUAL if os.path.exists(path)), "")
    fd = os.memfd_create("openssl.cnf", 0)      # to be inherited
    try:
        os.write(fd, amended(system, defaults).encode("utf-8", "surrogateescape"))
        environment = {**os.environ, _FILE: f"/proc/self/fd/{fd}", _MARK: f"{defaults.suites} {defaults.curves}"}
        if original:
            environment[_ORIGINAL] = original
        os.execve(sys.executable, list(arguments), environment)
    finally:
        os.close(fd)


def amended(system: str, defaults: Defaults) -> str:
    """A configuration file that says what the file `system` says, and these defaults."""
    values = _read(system)
    lines = [f".include {system}"] if system else []
    # sections keep their names where the system has them, so that what else stands in them keeps its place
    top = _pointer(values, lines, "default", "openssl_conf", "mailproxy_init")
    tls = _pointer(values, lines, top, "ssl_conf", "mailproxy_ssl")
    section = _pointer(values, lines, tls, "system_default", "mailproxy_defaults")
    lines.append(f"[{section}]")
    if defaults.suites:
        lines.append(f"Ciphersuites = {defaults.suites}")
    if defaults.curves:
        lines.append(f"Groups = {defaults.curves}")
    return "\n".join(lines) + "\n"


def _pointer(values: dict[tuple[str, str], str], lines: list[str], section: str, name: str, ours: str) -> str:
    """The section that this value names; without such a value, a section of ours that it names from now on."""
    found = values.get((section, name), "")
    if not found:
        lines += [f"[{section}]", f"{name} = {ours}"]
    return found or ours


def _read(path: str) -> dict[tuple[str, str], str]:
    """(section, name) -> value, as far as that takes no knowledge of included files and variables."""
    section, values = "default", dict[tuple[str, str], str]()
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(1 << 20)
    except OSError:                     # OpenSSL goes without it as well
        return values
    for line in text.replace("\\\n", "").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif "=" in line:
            name, _, value = line.partition("=")
            values[section, name.strip()] = value.strip()
    return values
