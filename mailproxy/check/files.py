"""Files that settings name: can they be read, and by whoever reads them?

In: the configuration.  Out: findings.  As root the rights of the user who will read a file are tried in a child
process.
"""
from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from mailproxy.check.findings import Findings
from mailproxy.config.loader import Config
from mailproxy.config.schema import USED
from mailproxy.config.tree import Node, Written
from mailproxy.config.view import text_of
from mailproxy.errors import ConfigInvalid, MailproxyError
from mailproxy.master import identity


def look(conf: Config, findings: Findings) -> None:
    for scope in (conf.top, *conf.scopes):
        for node, name, written in _from_files(scope.node):
            row = node.type.settings.get(name)
            try:
                if row is not None:
                    text_of(written, row)
            except ConfigInvalid as failure:
                used = node is not scope.node or name in USED
                for problem in failure.problems:
                    (findings.error if used else findings.warning)(problem.path, problem.line, problem.text)
    _passwd_files(conf, findings)


def _from_files(node: Node) -> Iterator[tuple[Node, str, Written]]:
    for name, written in node.settings.items():
        if written.source:
            yield node, name, written
    for children in node.children.values():
        for child in children.values():
            yield from _from_files(child)


def path_of(args: str) -> str:
    """The file that the args of a passwd-file name; "" if that depends on the user."""
    words = args.split()
    while len(words) > 1 and "=" in words[0]:
        del words[0]
    return "" if not words or "%" in words[0] else words[0]


def _passwd_files(conf: Config, findings: Findings) -> None:
    """They are read while the server runs, by the auth service's user."""
    service = conf.services.get("auth")
    if service is None:
        return
    try:
        who = identity.resolve(service, conf.view().core.base_dir)
    except MailproxyError:          # said elsewhere
        return
    for passdb in (row for protocol in ("", *conf.protocols) for row in conf.passdbs(protocol)):
        path = path_of(passdb.args) if passdb.driver == "passwd-file" else ""
        if not path:
            continue
        reason = _reason(path, who)
        if reason:
            findings.error(passdb.path, passdb.line,
                           f"passdb passwd-file: {path} can't be read by service auth: {reason}")


def _reason(path: str, who: identity.Identity) -> str:
    """Why that user cannot read the file, "" if it can."""
    if os.geteuid() != 0 or who.uid <= 0:
        return _try(path)
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            if who.gid >= 0:
                os.setgroups(list(who.groups))
                os.setgid(who.gid)
            os.setuid(who.uid)
            os.write(write_fd, _try(path).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return text


def _try(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                return "Is a FIFO"
            os.read(fd, 1)
        finally:
            os.close(fd)
    except OSError as error:
        return error.strerror or str(error)
    return ""
