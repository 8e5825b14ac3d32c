"""The admin's side of anvil: who is connected, who guesses passwords.

In: base_dir, masks of users and networks.  Out: rows.  Whoever is proxied is not in anvil, as with Dovecot.
"""
from __future__ import annotations

import fnmatch
import ipaddress
import os
import signal
import time
from collections.abc import Iterable

from mailproxy.admin.sockets import connect
from mailproxy.errors import MailproxyError

_TIMEOUT = 10.0
_MAX_REPLY = 256 * 1024 * 1024

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def ask(base_dir: str, command: str) -> list[list[str]]:
    """The rows that an empty line ends."""
    path = os.path.join(base_dir, "anvil")
    with connect(path, _TIMEOUT) as sock, sock.makefile("rb") as answers:
        sock.sendall(f"VERSION\tanvil\t1\t0\n{command}\n".encode())
        found: list[list[str]] = []
        while True:
            try:
                line = answers.readline(_MAX_REPLY)
            except OSError as failure:
                raise MailproxyError(f"read({path}) failed: {failure.strerror or failure}") from None
            if not line.endswith(b"\n"):
                raise MailproxyError(f"read({path}) failed: EOF")
            if line == b"\n":
                return found
            found.append(line[:-1].decode("utf-8", "replace").split("\t"))


def network(text: str) -> Network | None:
    """None: it is none."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


class Mask:
    """What `who` shows: users by * and ?, in any case, and addresses.  MailproxyError: two of a kind."""

    __slots__ = ("_network", "_user")

    def __init__(self, words: Iterable[str]) -> None:
        self._network: Network | None = None
        self._user: str | None = None
        for word in words:
            found = network(word)
            if found is not None:
                if self._network is not None:
                    raise MailproxyError("Multiple network masks not supported")
                self._network = found
            elif self._user is not None:
                raise MailproxyError("Multiple username masks not supported")
            else:
                self._user = word.lower()

    def takes(self, user: str, ips: Iterable[str]) -> bool:
        """One of the addresses is enough."""
        if self._user is not None and not fnmatch.fnmatchcase(user.lower(), self._user.replace("[", "[[]")):
            return False
        net = self._network
        return net is None or any(within(ip, net) for ip in ips)


def within(ip: str, net: Network) -> bool:
    found = network(ip)
    return found is not None and found.network_address in net


def sessions(base_dir: str) -> list[list[str]]:
    """username, service, pid, ip: a row for each connection."""
    rows = []
    for ident, pid, count in ask(base_dir, "CONNECT-DUMP"):
        service, _, rest = ident.partition("/")
        ip, slash, user = rest.partition("/")
        if not slash:                       # somebody's own idea of an ident
            continue
        rows += [[user, service, pid, ip]] * int(count)
    return rows


def users(rows: Iterable[list[str]], mask: Mask) -> list[list[str]]:
    """username, connections, service, pids, ips: a row for each user and service, with all that belongs to it."""
    found: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for user, service, pid, ip in rows:
        pids, ips = found.setdefault((user, service), ([], []))
        pids.append(pid)
        ips.append(ip)
    return [[user, str(len(pids)), service, f"({' '.join(dict.fromkeys(pids))})", f"({' '.join(dict.fromkeys(ips))})"]
            for (user, service), (pids, ips) in found.items() if mask.takes(user, ips)]


def kick(rows: Iterable[list[str]], mask: Mask, *, force: bool) -> list[str]:
    """End the processes all of whose sessions are meant (`force`: some of them); the users that this hits."""
    meant: dict[int, list[bool]] = {}
    users_of: dict[int, list[str]] = {}
    for user, _, process, ip in rows:
        meant.setdefault(int(process), []).append(mask.takes(user, [ip]))
        users_of.setdefault(int(process), []).append(user)
    hit: dict[str, None] = {}
    for pid, found in meant.items():
        if pid > 1 and (all(found) or (force and any(found))):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:      # it has just ended by itself
                continue
            hit.update(dict.fromkeys(users_of[pid]))
    return list(hit)


def penalties(base_dir: str, net: Network | None) -> list[list[str]]:
    """IP, penalty, last_penalty, last_update."""
    return [[ip, value, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(raised))),
             time.strftime("%H:%M:%S", time.localtime(int(updated)))]
            for ip, value, raised, updated in ask(base_dir, "PENALTY-DUMP") if net is None or within(ip, net)]
