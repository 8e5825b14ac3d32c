"""The status pipe of a service: how its processes tell the master what room they have.

In: a pipe that all processes of one service write to.  Out: one call per message.  Messages are gossip: the policy
checks pid and generation, and torn data is dropped.
"""
from __future__ import annotations

import os
from collections.abc import Callable

from mailproxy.ipc.contract import STATUS_SIZE, parse_status

#: Messages taken at once; a pipe holds about 5,000.
_AT_ONCE = 512


class StatusPipe:
    """Both ends stay open in the master: the write end is for the children that are still to come."""

    __slots__ = ("_call", "read_fd", "write_fd")

    def __init__(self, call: Callable[[int, int, int], None]) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)
        self._call = call

    def readable(self, mask: int) -> None:
        """Handler of the loop."""
        try:
            data = os.read(self.read_fd, _AT_ONCE * STATUS_SIZE)
        except BlockingIOError:
            return
        for pid, generation, available in parse_status(data):
            self._call(pid, generation, available)

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)
