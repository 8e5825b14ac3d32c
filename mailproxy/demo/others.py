"""`python -m mailproxy.demo.others NAME POP3 SIEVE SUBMISSION LMTP`: what a backend of the demo has besides IMAP.

Four servers, each with just enough of its protocol to show on which backend somebody has landed.  They know one
account, have one message and one script, and throw away every mail that they take: mail is no matter of the demo.
Limit: LINE_MAX bytes a line.
"""
from __future__ import annotations

import asyncio
import base64
import signal
import sys
from collections.abc import Awaitable, Callable

from mailproxy.demo.people import BACKEND_ACCOUNT
from mailproxy.demo.place import HOST

LINE_MAX = 65536
_PLAIN = base64.b64encode("\0".join((BACKEND_ACCOUNT.user, BACKEND_ACCOUNT.user,
                                     BACKEND_ACCOUNT.password)).encode()).decode()


class Peer:
    """Lines in, lines out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def line(self) -> str:
        """EOFError at the end."""
        data = await self._reader.readline()
        if not data:
            raise EOFError
        return data.decode("latin-1").rstrip("\r\n")

    async def say(self, *lines: str) -> None:
        self._writer.write("".join(line + "\r\n" for line in lines).encode("latin-1"))
        await self._writer.drain()

    async def message(self) -> int:
        """Read to the end of a message; its bytes."""
        size = 0
        while (line := await self.line()) != ".":
            size += len(line) + 2
        return size

    async def chunk(self, size: int) -> int:
        await self._reader.readexactly(size)
        return size


async def pop3(name: str, peer: Peer) -> None:
    text = ("From: demo@localhost", f"Subject: this is backend {name}", "", f"This message lives on Backend-{name}.")
    size = sum(len(line) + 2 for line in text)
    answers = {"STAT": (f"+OK 1 {size}",), "LIST": ("+OK", f"1 {size}", "."), "UIDL": ("+OK", "1 demo", "."),
               "RETR": ("+OK", *text, "."), "TOP": ("+OK", *text, "."), "CAPA": ("+OK", "UIDL", "TOP", "USER", ".")}
    await peer.say("+OK ready")
    user, inside = "", False
    while True:
        word, _, rest = (await peer.line()).partition(" ")
        if word.upper() == "USER":
            user = rest
            await peer.say("+OK")
        elif word.upper() == "PASS":
            inside = (user, rest) == (BACKEND_ACCOUNT.user, BACKEND_ACCOUNT.password)
            await peer.say("+OK Logged in." if inside else "-ERR [AUTH] Authentication failed.")
        elif word.upper() == "QUIT":
            await peer.say("+OK bye")
            return
        else:
            await peer.say(*(answers.get(word.upper(), ("+OK",)) if inside else ("-ERR log in first",)))


async def sieve(name: str, peer: Peer) -> None:
    await peer.say('"IMPLEMENTATION" "demo"', '"SIEVE" "fileinto"', '"SASL" "PLAIN"', '"VERSION" "1.0"', 'OK "ready"')
    inside = False
    while True:
        line = await peer.line()
        word = line.partition(" ")[0].upper()
        if word == "AUTHENTICATE":
            inside = _PLAIN in line
            await peer.say('OK "Logged in."' if inside else 'NO "Authentication failed."')
        elif word == "LOGOUT":
            await peer.say('OK "bye"')
            return
        elif word == "LISTSCRIPTS" and inside:
            await peer.say(f'"Backend-{name}" ACTIVE', 'OK "done"')
        else:
            await peer.say('OK "done"' if inside else 'NO "log in first"')


async def submission(name: str, peer: Peer) -> None:
    await _smtp(name, peer, lmtp=False)


async def lmtp(name: str, peer: Peer) -> None:
    await _smtp(name, peer, lmtp=True)


async def _smtp(name: str, peer: Peer, *, lmtp: bool) -> None:
    """The reply to RCPT names the backend where the one behind the message is the proxy's own."""
    await peer.say("220 demo")
    recipients = 0
    while True:
        line = await peer.line()
        word, _, rest = line.partition(" ")
        match word.upper():
            case "EHLO" | "LHLO":
                await peer.say("250-demo", "250-PIPELINING", "250-ENHANCEDSTATUSCODES", "250-CHUNKING",
                               "250 8BITMIME" if lmtp else "250 AUTH PLAIN")
            case "AUTH":
                await peer.say("235 2.7.0 Logged in." if _PLAIN in rest else "535 5.7.8 Authentication failed.")
            case "MAIL" | "RSET":
                recipients = 0
                await peer.say("250 2.1.0 OK")
            case "RCPT":
                recipients += 1
                await peer.say(f"250 2.1.5 Backend-{name} takes it" if lmtp else "250 2.1.5 OK")
            case "DATA":
                await peer.say("354 go on")
                size = await peer.message()
                await peer.say(*_taken(name, size, recipients if lmtp else 1))
            case "BDAT":
                size = await peer.chunk(int(rest.split()[0]))
                last = rest.upper().endswith("LAST")
                await peer.say(*(_taken(name, size, recipients if lmtp else 1) if last else ("250 2.0.0 OK",)))
            case "QUIT":
                await peer.say("221 2.0.0 Bye")
                return
            case _:
                await peer.say("250 2.0.0 OK")


def _taken(name: str, size: int, recipients: int) -> tuple[str, ...]:
    return (f"250 2.0.0 Backend-{name} has thrown away {size} bytes",) * recipients


SERVERS: tuple[Callable[[str, Peer], Awaitable[None]], ...] = (pop3, sieve, submission, lmtp)


async def _serve(name: str, ports: list[int]) -> None:
    stop = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set_result, None)

    def handler(talk: Callable[[str, Peer], Awaitable[None]]) \
            -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await talk(name, Peer(reader, writer))
            except (EOFError, OSError, ValueError, IndexError):     # gone, or not what we speak
                pass
            finally:
                writer.close()
        return handle

    for talk, port in zip(SERVERS, ports, strict=True):
        await asyncio.start_server(handler(talk), HOST, port, limit=LINE_MAX)
    await stop


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], [int(port) for port in sys.argv[2:]]))
