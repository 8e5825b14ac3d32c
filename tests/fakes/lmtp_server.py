"""An LMTP server for tests: takes messages, counts their bytes, and misbehaves where it is told to."""
from __future__ import annotations

import contextlib
import hashlib
import socket
import socketserver
import threading
import time
from typing import Any


class Message:
    """One delivery: its recipients, and what came."""

    def __init__(self, recipients: list[str]) -> None:
        self.recipients = recipients
        self.size = 0
        self.digest = hashlib.sha256()
        self.head = b""

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self.digest.update(data)
        self.head = (self.head + data)[:4096] if len(self.head) < 4096 else self.head


class LmtpServer:
    """`chunking`: BDAT is offered.  `pause`: seconds of sleep for each 64 KiB of a message.  `die_after`: bytes of a
    message after which the connection is cut.  `refuse`: recipients that get 452 after the message."""

    def __init__(self, *, chunking: bool = True, pause: float = 0.0, die_after: int = -1,
                 refuse: frozenset[str] = frozenset(), tls: Any = None) -> None:
        self.chunking = chunking
        self.pause = pause
        self.die_after = die_after
        self.refuse = refuse
        self.messages: list[Message] = []
        self.commands: list[str] = []
        self._connections: set[socket.socket] = set()
        owner = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                owner._connections.add(self.request)
                with contextlib.suppress(OSError, ValueError):
                    owner.serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 200

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def serve(self, sock: socket.socket) -> None:
        sock.settimeout(60)
        with sock.makefile("rb", 65536) as stream:
            self._say(sock, "220 fake LMTP")
            recipients: list[str] = []
            while line := stream.readline():
                text = line.decode("latin-1").rstrip("\r\n")
                self.commands.append(text)
                word = text.partition(" ")[0].upper()
                if word == "LHLO":
                    offers = ["fake", "PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", *["CHUNKING"] * self.chunking]
                    self._say(sock, *(f"250-{offer}" for offer in offers[:-1]), f"250 {offers[-1]}")
                elif word == "MAIL":
                    recipients = []
                    self._say(sock, "250 2.1.0 OK")
                elif word == "RCPT":
                    recipients.append(text[9:].partition(">")[0])
                    self._say(sock, "250 2.1.5 OK")
                elif word in ("BDAT", "DATA"):
                    message = Message(recipients)
                    if word == "BDAT":
                        self._chunk(stream, int(text.split()[1]), message)
                    else:
                        self._say(sock, "354 go")
                        self._dots(stream, message)
                    self.messages.append(message)
                    self._say(sock, *("452 4.2.2 Full" if each in self.refuse else "250 2.0.0 Saved"
                                      for each in recipients))
                elif word == "QUIT":
                    self._say(sock, "221 2.0.0 Bye")
                    return

    def _say(self, sock: socket.socket, *lines: str) -> None:
        sock.sendall("".join(line + "\r\n" for line in lines).encode())

    def _took(self, message: Message, data: bytes) -> None:
        message.add(data)
        if self.pause:
            time.sleep(self.pause * len(data) / 65536)
        if 0 <= self.die_after <= message.size:
            raise ValueError("die")

    def _chunk(self, stream: Any, left: int, message: Message) -> None:
        while left:
            data = stream.read1(min(left, 65536))
            if not data:
                raise ValueError("cut off")
            left -= len(data)
            self._took(message, data)

    def _dots(self, stream: Any, message: Message) -> None:
        lines: list[bytes] = []
        while (line := stream.readline()) != b".\r\n":
            if not line:
                raise ValueError("cut off")
            lines.append(line.removeprefix(b"."))
            if len(lines) == 1000:
                self._took(message, b"".join(lines))
                lines.clear()
        self._took(message, b"".join(lines))
