"""One connection to anvil: commands, a line each, and their answers in the same order.

In: bytes.  Out: bytes; changes of the two tables.  A line that means nothing ends the connection, as Dovecot's anvil
does.  Limits: MAX_LINE bytes a line, OUT_MAX bytes of answers that a peer does not take.
"""
from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailproxy.errors import ProtocolError
from mailproxy.ipc.authwire import Lines, encode
from mailproxy.ipc.penalty import MAX_VALUE
from mailproxy.net.loop import IN, OUT, quiet_close

if TYPE_CHECKING:
    from mailproxy.anvil.process import Anvil

MAX_LINE = 8192
#: A dump of both tables at their limits.
OUT_MAX = 256 * 1024 * 1024
_READ = 65536
_VERSION = "VERSION\tanvil\t1\t"
_LARGEST = 0xFFFFFFFF
_MAX_PID = 0x7FFFFFFF
_CREDENTIALS = struct.Struct("=iII")


class Peer:
    """`asks`: one of a login process, which may look up counts and nothing else."""

    __slots__ = ("_anvil", "_asks", "_greeted", "_held", "_lines", "_out", "_pid", "_socket")

    def __init__(self, anvil: Anvil, connection: socket.socket, *, asks: bool = False) -> None:
        self._anvil = anvil
        self._socket = connection
        self._lines = Lines(MAX_LINE)
        self._asks = asks
        self._greeted = False
        self._out = b""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self._pid: int = _CREDENTIALS.unpack(raw)[0]
        self._held: dict[str, int] = {}     # its own connections, which end with it
        anvil.loop.register(connection.fileno(), IN, self._ready)

    def _ready(self, mask: int) -> None:
        if mask & OUT:
            self._flush()
            return                          # one who does not take answers asks nothing more
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:                     # reset: as good as closed
            data = b""
        if not data:
            self.close()
            return
        try:
            for line in self._lines.feed(data):
                self._line(line)
        except ProtocolError as error:
            self._anvil.log.error(str(error) if not str(error).startswith("sent us")
                                  else "BUG: Anvil client connection sent too much data")
            self.close()
            return
        self._flush()

    def _line(self, line: str) -> None:
        if not self._greeted:
            if not line.startswith(_VERSION):
                raise ProtocolError("Anvil client not compatible with this server (mixed old and new binaries?) "
                                    + line[:200])
            self._greeted = True
            return
        name, *words = line.split("\t")
        if not name:
            return
        row = _COMMANDS.get(name)
        if row is None or (self._asks and name != "LOOKUP"):
            raise ProtocolError(f"Anvil client input error: Unknown command: {name[:200]}")
        need, command = row
        if len(words) < need:
            raise ProtocolError(f"Anvil client input error: {name}: Not enough parameters")
        command(self, words)

    # --- commands --------------------------------------------------------------------------------------------------

    def connected(self, words: list[str]) -> None:
        pid = _pid("CONNECT", words[0])
        if self._anvil.counts.connect(pid, words[1]):
            if pid == self._pid:
                self._held[words[1]] = self._held.get(words[1], 0) + 1
        else:
            self._anvil.log.warning(f"connect limit: table is full, not counted: {words[1]}")

    def disconnected(self, words: list[str]) -> None:
        pid = _pid("DISCONNECT", words[0])
        if pid == self._pid and self._held.get(words[1]):
            self._held[words[1]] -= 1
        if not self._anvil.counts.disconnect(pid, words[1]):
            self._anvil.log.error(f"connect limit: disconnection for unknown pid {pid} + ident {words[1]}")

    def count(self, words: list[str]) -> None:
        self._say(str(self._anvil.counts.look_up(words[0])))

    def counts(self, words: list[str]) -> None:
        self._say("".join(f"{ident}\t{pid}\t{count}\n" for ident, pid, count in self._anvil.counts.rows()))

    def kill(self, words: list[str]) -> None:
        raise ProtocolError("Anvil client input error: KILL sent by a non-master connection")

    def penalty(self, words: list[str]) -> None:
        value, when = self._anvil.penalties.get(words[0], int(time.time()))
        self._say(f"{value} {when}")

    def set_penalty(self, words: list[str]) -> None:
        checksum, value = _number(words[1]), _number(words[2])
        if checksum < 0 or not 0 <= value <= MAX_VALUE or (not value and checksum):
            raise ProtocolError("Anvil client input error: PENALTY-INC: Invalid parameters")
        self._anvil.penalties.set(words[0], checksum, value, int(time.time()))

    def set_expiry(self, words: list[str]) -> None:
        seconds = _number(words[0]) if words else -1
        if seconds < 0:
            raise ProtocolError("Anvil client input error: PENALTY-SET-EXPIRE-SECS: Invalid parameters")
        self._anvil.penalties.expire = seconds

    def penalties(self, words: list[str]) -> None:
        rows = self._anvil.penalties.rows(int(time.time()))
        self._say("".join(f"{ident}\t{value}\t{raised}\t{updated}\n" for ident, value, raised, updated in rows))

    # --- answers ---------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._out += encode(text) + b"\n"
        if len(self._out) > OUT_MAX:
            raise ProtocolError("Anvil client doesn't take its answers")

    def _flush(self) -> None:
        if not self._out:
            return
        try:
            sent = self._socket.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:                     # it is gone: the next read says so
            sent = len(self._out)
        self._out = self._out[sent:]
        self._anvil.loop.modify(self._socket.fileno(), OUT if self._out else IN)

    def close(self) -> None:
        self._anvil.loop.unregister(self._socket.fileno())
        quiet_close(self._socket)
        for ident, count in self._held.items():     # a process that died could not say so
            for _ in range(count):
                self._anvil.counts.disconnect(self._pid, ident)
        self._anvil.gone(self)


def _pid(command: str, text: str) -> int:
    number = _number(text)
    if not 0 <= number <= _MAX_PID:
        raise ProtocolError(f"Anvil client input error: {command}: Invalid pid")
    return number


def _number(text: str) -> int:
    """-1: it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _LARGEST else -1


#: name -> (how many words it needs, what does it)
_COMMANDS: dict[str, tuple[int, Callable[[Peer, list[str]], None]]] = {
    "CONNECT": (2, Peer.connected),
    "DISCONNECT": (2, Peer.disconnected),
    "CONNECT-DUMP": (0, Peer.counts),
    "LOOKUP": (1, Peer.count),
    "KILL": (1, Peer.kill),
    "PENALTY-GET": (1, Peer.penalty),
    "PENALTY-INC": (3, Peer.set_penalty),
    "PENALTY-SET-EXPIRE-SECS": (0, Peer.set_expiry),
    "PENALTY-DUMP": (0, Peer.penalties),
}
