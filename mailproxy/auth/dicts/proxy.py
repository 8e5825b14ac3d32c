"""proxy: a server of the administrator's (or Dovecot's dict service) on a UNIX socket, `/path/to/socket:name`.

    C: H3⇥2⇥0⇥⇥name    Lshared/key⇥       S: O<value>   N (no such key)   F<reason>
    C: I<n>⇥<flags>⇥0⇥<prefix>            S: O<key>⇥<value> …  then an empty line

One request at a time.  A connection that the server has closed is made anew once.
"""
from __future__ import annotations

import socket
from collections.abc import Iterator

from mailproxy.auth.dicts.store import MAX_KEYS, MAX_VALUE, StoreFailed, decoded, raw
from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.ipc.authwire import escape, unescape

_TIMEOUT = 30.0
#: Below a key, however deep; only keys.
_RECURSE, _NO_VALUE = 1, 8


class Proxy:
    __slots__ = ("_buffer", "_name", "_path", "_socket")

    def __init__(self, settings: str) -> None:
        self._path, _, self._name = settings.partition(":")
        if not self._path.startswith("/"):
            raise ArgsInvalid("dict proxy: name the socket with its whole path (proxy:/path/to/socket:name): "
                              "there is no dict service")
        self._socket: socket.socket | None = None
        self._buffer = b""

    def get(self, key: str) -> str | None:
        line = self._asked(f"L{escape(key)}\t")
        if line[:1] == "O":
            return unescape(line[1:].partition("\t")[0])
        if line[:1] == "N":
            return None
        raise self._failed(line)

    def keys(self, prefix: str) -> Iterator[str]:
        line = self._asked(f"I0\t{_RECURSE | _NO_VALUE}\t0\t{escape(prefix)}\t")
        for _ in range(MAX_KEYS):
            if line[:1] != "O":
                break
            yield unescape(line[1:].partition("\t")[0])
            line = self._line()
        if line and line[:1] not in ("N", "\t"):
            raise self._failed(line)

    def _failed(self, line: str) -> StoreFailed:
        self.close()
        return StoreFailed(f"{self._path}: {line[1:200] if line[:1] == 'F' else 'sent a broken answer'}")

    def _asked(self, line: str) -> str:
        """The first line of the answer."""
        fresh = self._socket is None
        try:
            if self._socket is None:
                self._connect()
            self._send(line)
            return self._line()
        except OSError as error:
            self.close()
            if fresh or isinstance(error, TimeoutError):
                raise StoreFailed(f"{self._path}: {error.strerror or error}") from None
        return self._asked(line)

    def _connect(self) -> None:
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_TIMEOUT)
        self._socket.connect(self._path)
        self._send(f"H3\t2\t0\t\t{escape(self._name)}")

    def _send(self, line: str) -> None:
        assert self._socket is not None
        self._socket.sendall(raw(line) + b"\n")

    def _line(self) -> str:
        assert self._socket is not None
        while True:
            while b"\n" not in self._buffer:
                if len(self._buffer) > MAX_VALUE:
                    raise self._failed("")
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionResetError(0, "the server closed the connection")
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            if line[:1] != b"H":                            # its greeting needs no answer
                return decoded(line)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
