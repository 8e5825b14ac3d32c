"""The record with which a login process hands a client to a mail process, and the answer to it (Dovecot 2.3's).

In: what is known of the client and of its auth request.  Out: bytes; the client's descriptor travels beside them.  The
layout is that of a 64-bit machine.  Limit: DATA_MAX bytes behind the record, the session id among them.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass

from mailproxy.errors import ProtocolError

#: Bytes of the session id, its end, and what the protocol adds: what a mail process reads at the most.
DATA_MAX = 1218
#: tag, auth server's pid, request, our pid, cookie, local and remote address, ports, flags, length, inode.
_RECORD = struct.Struct("=IiII16sH2x16sH2x16sHHII4xQ")
_REPLY = struct.Struct("=IIi")
REPLY_SIZE = _REPLY.size
_FAMILIES = {4: 2, 16: 10}
SECURED, TLS = 2, 4
#: There is one request on a connection.
_TAG = 1


@dataclass(frozen=True, slots=True)
class Request:
    """`auth`: pid and cookie of the auth server; `request`, `pid`: the number that it knows the login by, and ours.
    Addresses are packed."""

    auth: tuple[int, bytes]
    request: int
    pid: int
    local: tuple[bytes, int]
    remote: tuple[bytes, int]
    flags: int
    inode: int
    data: bytes

    def encode(self) -> bytes:
        (server, cookie), (lip, lport), (rip, rport) = self.auth, self.local, self.remote
        return _RECORD.pack(_TAG, server, self.request, self.pid, cookie, _FAMILIES[len(lip)], lip, _FAMILIES[len(rip)],
                            rip, lport, rport, self.flags, len(self.data), self.inode) + self.data


def answer(data: bytes) -> tuple[bool, int]:
    """(the mail process has taken the client over, its pid)"""
    tag, status, pid = _REPLY.unpack(data)
    if tag != _TAG:
        raise ProtocolError(f"Unexpected tag in the answer: {tag}")
    return status == 0, pid
