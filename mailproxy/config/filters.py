"""Filters: which scope applies to which connection, which of two is stronger, and when they contradict each other.

Values only: a filter knows no setting.  Order of strength: server name, longer local net, longer remote net, protocol;
among equals the first in the file wins.
"""
from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Filter(NamedTuple):
    """All conditions must hold; an empty one always does.  Equal filters are one."""

    protocol: str = ""              # "imap", "!imap"
    local: Network | None = None
    remote: Network | None = None
    local_name: str = ""            # lower case, as written: names separated by blanks
    named: bool = False             # there is a local_name block, be it empty

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.local_name.split())

    @property
    def strength(self) -> tuple[bool, int, int, bool]:
        return (self.named, self.local.prefixlen if self.local else 0,
                self.remote.prefixlen if self.remote else 0, bool(self.protocol))

    @property
    def by_address(self) -> bool:
        return self.named or self.local is not None or self.remote is not None

    def fits_protocol(self, protocol: str) -> bool:
        wanted = self.protocol
        if wanted.startswith("!"):
            return bool(protocol) and protocol != wanted[1:]
        return not wanted or wanted == protocol

    def matches(self, protocol: str, local: Address | None, remote: Address | None, local_name: str) -> bool:
        """`local_name` in lower case."""
        return (self.fits_protocol(protocol) and _inside(local, self.local) and _inside(remote, self.remote)
                and (not self.named or any(name_matches(name, local_name) for name in self.names)))

    def possible(self, protocol: str, local: Address | None, remote: Address | None, local_name: str) -> bool:
        """As `matches`, where what is empty or None is not known yet."""
        known = self._replace(protocol=self.protocol if protocol else "", local=self.local if local else None,
                              remote=self.remote if remote else None, named=self.named and bool(local_name))
        return known.matches(protocol, local, remote, local_name)


def _inside(address: Address | None, net: Network | None) -> bool:
    return net is None or (address is not None and address.version == net.version and address in net)


def name_matches(pattern: str, name: str) -> bool:
    """A `*` label stands for exactly one label; it is never the whole name."""
    if pattern == name:
        return True
    if "*" not in pattern or "." not in pattern:
        return False
    wanted, given = pattern.split("."), name.split(".")
    return len(wanted) == len(given) and all(a in ("*", b) for a, b in zip(wanted, given, strict=True))


#: Relations of two conditions: the same or never ranked against each other, first inside second, reverse, apart.
_SAME, _NARROWER, _WIDER, _APART = range(4)


def _relate_nets(one: Network | None, two: Network | None) -> int:
    """A net of all addresses says nothing, as if it were not there."""
    if one == two or not ((one and one.prefixlen) or (two and two.prefixlen)):
        return _SAME
    if one is None or not one.prefixlen:
        return _WIDER
    if two is None or not two.prefixlen:
        return _NARROWER
    if one.version != two.version or not one.overlaps(two):
        return _APART
    return _NARROWER if one.prefixlen > two.prefixlen else _WIDER


def _relate_protocols(one: str, two: str) -> int:
    if not one or not two:
        return _SAME if one == two else _NARROWER if one else _WIDER
    if one == two or (one[0] == two[0] == "!"):
        return _SAME
    if one[0] == "!" or two[0] == "!":
        return _APART if one.lstrip("!") == two.lstrip("!") else _SAME
    return _APART


def _relate_names(one: Filter, two: Filter) -> int:
    if one.named != two.named:
        return _NARROWER if one.named else _WIDER
    if one.local_name == two.local_name:
        return _SAME
    # `*.x` and `a.x` can both match: the first wins, no contradiction
    overlap = any(name_matches(a, b) or name_matches(b, a) for a in one.names for b in two.names)
    return _SAME if overlap else _APART


def contradict(one: Filter, two: Filter) -> bool:
    """Can both match a connection while neither is a refinement of the other?"""
    if len({net.version for net in (one.local, one.remote, two.local, two.remote) if net is not None}) > 1:
        return False        # both ends of a connection have addresses of one family
    relations = {_relate_protocols(one.protocol, two.protocol)}
    for pair in ((one.local, two.local), (one.remote, two.remote)):
        relations.add(_relate_nets(*pair))
    if _APART in relations:
        return False
    relations.add(_relate_names(one, two))
    return _APART not in relations and _NARROWER in relations and _WIDER in relations
