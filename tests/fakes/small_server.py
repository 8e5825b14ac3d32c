#!/usr/bin/python3
"""A service of somebody's own: keeps the master's contract, greets with what it was given, logs what a FIFO brings.

It uses nothing but the standard library, as such a program would.
"""
from __future__ import annotations

import json
import os
import selectors
import socket
import stat
import struct
import sys

STATUS, DEAD, FIRST = 5, 6, 7


def report(available: int) -> None:
    os.write(STATUS, struct.pack("=iII", os.getpid(), int(os.environ["GENERATION"]), available))


def about() -> bytes:
    """Who am I?"""
    return json.dumps({
        "pid": os.getpid(), "argv": sys.argv[1:], "environ": dict(os.environ), "uid": os.getresuid(),
        "gid": os.getresgid(), "groups": os.getgroups(), "cwd": os.getcwd(),
        "fds": {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in range(FIRST + 6)
                if os.path.exists(f"/proc/self/fd/{fd}")},
        "limits": open("/proc/self/limits").read()}).encode() + b"\n"


def main() -> None:
    waiting = selectors.DefaultSelector()
    for fd in range(FIRST, FIRST + int(os.environ["SOCKET_COUNT"])):
        fifo = stat.S_ISFIFO(os.fstat(fd).st_mode)
        waiting.register(fd if fifo else socket.socket(fileno=fd), selectors.EVENT_READ, "fifo" if fifo else "socket")
    waiting.register(DEAD, 0 or selectors.EVENT_READ, "dead")
    left = int(os.environ["CLIENT_LIMIT"])
    report(left)
    while left:
        for key, _ in waiting.select():
            if key.data == "dead":
                return
            if key.data == "fifo":
                text = os.read(key.fd, 4096).decode().strip()
                os.write(2, f"\x01\x02{os.getpid()} the FIFO says {text}\n".encode())
                continue
            try:
                client, _ = key.fileobj.accept()                    # type: ignore[union-attr]
            except BlockingIOError:
                continue
            client.sendall(about())
            client.close()
            if os.environ.get("SERVICE_COUNT"):
                left -= 1
            report(left)


if __name__ == "__main__":
    main()
