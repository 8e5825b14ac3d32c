"""An auth client for tests: speaks the protocol by hand, with bounded waits."""
from __future__ import annotations

import base64
import itertools
import os
import socket
import time

_TIMEOUT = 10.0
_PIDS = itertools.count(os.getpid() * 1000 % 1_000_000_000)


def plain(user: str, password: str, authzid: str = "") -> str:
    return base64.b64encode(f"{authzid}\0{user}\0{password}".encode("utf-8", "surrogateescape")).decode()


class Peer:
    """One connection; `minor` is what it claims to speak."""

    def __init__(self, path: str, minor: int = 2, handshake: bool = True, pid: int = 0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(_TIMEOUT)
        limit = time.monotonic() + _TIMEOUT
        while True:
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < limit
                time.sleep(0.02)
        self._buffer = b""
        self._id = 0
        self.hello: list[str] = []
        if handshake:
            self.send(f"VERSION\t1\t{minor}", f"CPID\t{pid or next(_PIDS)}")
            while not self.hello or self.hello[-1] != "DONE":
                self.hello.append(self.line())

    def send(self, *lines: str) -> None:
        self.socket.sendall("".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"))

    def line(self) -> str:
        while b"\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                return "EOF"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "surrogateescape")

    def silent(self, seconds: float) -> bool:
        self.socket.settimeout(seconds)
        try:
            return not self._buffer and not self.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(_TIMEOUT)

    def auth(self, user: str, password: str, *params: str, authzid: str = "", service: str = "imap") -> str:
        """One PLAIN login; the reply without its id."""
        self._id += 1
        fields = ["AUTH", str(self._id), "PLAIN", f"service={service}", "no-penalty", *params,
                  f"resp={plain(user, password, authzid)}"]
        self.send("\t".join(fields))
        return without_id(self.line())

    def close(self) -> None:
        self.socket.close()


def without_id(line: str) -> str:
    word, _, rest = line.partition("\t")
    return "\t".join((word, *rest.split("\t")[1:]))
