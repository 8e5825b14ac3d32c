"""How often each ident (`SERVICE/IP/USER`) is connected, and by which processes.

In: connects and disconnects.  Out: counts.  Limit: MAX_ENTRIES pairs of process and ident.
"""
from __future__ import annotations

from collections.abc import Iterator

#: As many sessions as the largest sites have on one machine; beyond, newcomers are not counted.
MAX_ENTRIES = 1_000_000


class Counts:
    __slots__ = ("_entries", "_idents")

    def __init__(self) -> None:
        self._entries = 0
        self._idents: dict[str, dict[int, int]] = {}

    def connect(self, pid: int, ident: str) -> bool:
        """False: the table is full."""
        pids = self._idents.get(ident)
        if pids is None or pid not in pids:
            if self._entries >= MAX_ENTRIES:
                return False
            self._entries += 1
            pids = self._idents.setdefault(ident, {})
        pids[pid] = pids.get(pid, 0) + 1
        return True

    def disconnect(self, pid: int, ident: str) -> bool:
        """False: there was no such connection."""
        pids = self._idents.get(ident)
        if pids is None or pid not in pids:
            return False
        pids[pid] -= 1
        if not pids[pid]:
            self._drop(ident, pid)
        return True

    def look_up(self, ident: str) -> int:
        return sum(self._idents.get(ident, {}).values())

    def forget(self, pid: int) -> None:
        """A process is gone, and its connections with it."""
        for ident in [ident for ident, pids in self._idents.items() if pid in pids]:
            self._drop(ident, pid)

    def rows(self) -> Iterator[tuple[str, int, int]]:
        """(ident, pid, count)"""
        for ident, pids in self._idents.items():
            for pid, count in pids.items():
                yield ident, pid, count

    def _drop(self, ident: str, pid: int) -> None:
        pids = self._idents[ident]
        del pids[pid]
        self._entries -= 1
        if not pids:
            del self._idents[ident]
