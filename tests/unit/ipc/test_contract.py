"""Status reports of children: what is written can be read, and garbage does no harm."""
from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailproxy.ipc.contract import STATUS_SIZE, UNLIMITED, Child, parse_status
from tests.fuzz import examples


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


def child(fd: int) -> Child:
    return Child("imap-login", "imap", 7, "/nonexistent", (), fd, -1, -1)


def test_reports_arrive_in_order(pipe: tuple[int, int]) -> None:
    speaker = child(pipe[1])
    for available in (0, 1, 1000, UNLIMITED, UNLIMITED + 5):
        speaker.report(available)
    assert parse_status(os.read(pipe[0], STATUS_SIZE * 100)) == [
        (os.getpid(), 7, available) for available in (0, 1, 1000, UNLIMITED, UNLIMITED)]


def test_full_pipe_loses_reports_but_never_blocks_and_never_tears_one(pipe: tuple[int, int]) -> None:
    speaker = child(pipe[1])
    for number in range(10_000):
        speaker.report(number)
    data = b""
    while True:
        try:
            data += os.read(pipe[0], 65536)
        except BlockingIOError:
            break
    assert len(data) % STATUS_SIZE == 0
    seen = [available for _, _, available in parse_status(data)]
    assert seen == list(range(len(seen)))
    assert len(seen) >= 5000


def test_master_is_gone(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    child(pipe[1]).report(1)


@given(st.binary(max_size=STATUS_SIZE * 5))
@examples(100)
def test_any_bytes_are_read(data: bytes) -> None:
    found = parse_status(data)
    assert len(found) == len(data) // STATUS_SIZE
    assert all(0 <= generation <= UNLIMITED and 0 <= available <= UNLIMITED for _, generation, available in found)
