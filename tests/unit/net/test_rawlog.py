"""Copies of what is said: complete, readable, harmless when the disk is not."""
from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from mailproxy.net.rawlog import Rawlog
from mailproxy.net.transport import Plain

STAMP = re.compile(rb"^[0-9]+\.[0-9]{6} ", re.M)


def pair(rawlog: Rawlog) -> tuple[Plain, socket.socket]:
    near, far = socket.socketpair()
    near.setblocking(False)
    return rawlog.record(Plain(near.detach())), far


def test_both_directions(tmp_path: Path) -> None:
    complaints: list[str] = []
    rawlog = Rawlog(str(tmp_path), complaints.append)
    link, far = pair(rawlog)
    for piece in (b"* OK\r\nhalf", b" a line\r\n\0\x01\n", b"end"):
        far.sendall(piece)
        assert link.recv(4096) == piece
    buffer = bytearray(10)
    far.sendall(b"more\n")
    assert link.recv_into(memoryview(buffer)) == 5
    assert link.recv(10) is None
    assert link.send(b"a NOOP\r\n") == 8
    assert not link.splices
    link.close()
    far.close()
    said, told = sorted(tmp_path.iterdir())
    assert re.fullmatch(r"[0-9]{8}-[0-9]{6}\.[0-9]+\.1\.in", said.name)
    assert told.name == said.name[:-2] + "out"
    assert STAMP.sub(b"T ", said.read_bytes()) == b"T * OK\r\nT half a line\r\nT \0\x01\nT endmore\n"
    assert STAMP.sub(b"T ", told.read_bytes()) == b"T a NOOP\r\n"
    assert said.stat().st_mode & 0o777 == told.stat().st_mode & 0o777 == 0o600
    assert not complaints


@pytest.mark.parametrize("directory", ["missing", "/dev/null"])
def test_a_directory_that_is_none_is_said_once(tmp_path: Path, directory: str) -> None:
    complaints: list[str] = []
    rawlog = Rawlog(str(tmp_path / directory), complaints.append)
    for _ in range(3):
        link, far = pair(rawlog)
        assert type(link) is Plain
        link.close()
        far.close()
    assert len(complaints) == 1
    assert "failed" in complaints[0]


def test_a_full_disk_ends_the_copies_only(tmp_path: Path) -> None:
    complaints: list[str] = []
    rawlog = Rawlog(str(tmp_path), complaints.append)
    from mailproxy.net import rawlog as module
    file = module.File(str(tmp_path / "x"), rawlog.fails)
    file.close()
    file._fd = os.open("/dev/full", os.O_WRONLY)
    file.write(b"x\n")
    file.write(b"x\n")
    assert complaints == ["rawlog: write() failed: No space left on device"]
