"""The log process: what becomes of bytes on its pipes."""
from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from mailproxy.errors import ConfigInvalid
from mailproxy.log import process, sink
from mailproxy.log.format import Stamp
from mailproxy.log.pipe import Log
from mailproxy.log.process import Pipe, Reader, Writer
from mailproxy.log.sink import LogFailed, Settings
from tests.fakes import standin


def writer(tmp_path: Path, **settings: str) -> Writer:
    made = Writer(Settings(log_path=str(tmp_path / "log"), log_timestamp="T ", **settings))
    made.begin()
    return made


def lines(tmp_path: Path, data: bytes, service: str = "imap-login") -> list[str]:
    made = writer(tmp_path)
    pipe = Pipe(-1, service)
    assert made.feed(pipe, data) == []
    made.finish(pipe)
    made.end()
    return (tmp_path / "log").read_text().splitlines()


@pytest.mark.parametrize(("data", "expected"), [
    (b"\x01\x0212 hello\n", "T imap-login: Info: hello"),
    (b"\x01\x0112 d\n", "T imap-login: Debug: d"),
    (b"\x01\x0312 w\n", "T imap-login: Warning: w"),
    (b"\x01\x0412 e\n", "T imap-login: Error: e"),
    (b"\x01\x0512 f\n", "T imap-login: Fatal: f"),
    (b"\x01\x0612 p\n", "T imap-login: Panic: p"),
    (b"printed by a library\n", "T imap-login: Error: printed by a library"),
    (b"no newline at the end", "T imap-login: Error: no newline at the end"),
    (b"\x01\x0212 a\x1b[31mb\n", "T imap-login: Info: a\\x1b[31mb"),
    (b"\x01\x7712 odd\n", "T imap-login: Error: \\x01w12 odd"),
    (b"\x01\x0212 gr\xc3\xbc\xc3\x9fe\n", "T imap-login: Info: grüße"),
])
def test_one_line(tmp_path: Path, data: bytes, expected: str) -> None:
    assert lines(tmp_path, data) == [expected]


def test_a_print_without_newline_does_not_swallow_the_next_line(tmp_path: Path) -> None:
    assert lines(tmp_path, b"stray\x01\x0212 whole\n") == ["T imap-login: Error: stray", "T imap-login: Info: whole"]


def test_lines_that_arrive_in_parts(tmp_path: Path) -> None:
    made = writer(tmp_path)
    pipe = Pipe(-1, "auth")
    for byte in b"\x01\x0212 slow\n\x01\x0312 again\n":
        made.feed(pipe, bytes([byte]))
    made.end()
    assert (tmp_path / "log").read_text() == "T auth: Info: slow\nT auth: Warning: again\n"


def test_an_endless_line_is_bounded(tmp_path: Path) -> None:
    made = writer(tmp_path)
    pipe = Pipe(-1, "auth")
    for _ in range(100):
        made.feed(pipe, b"x" * 1000)
    assert len(pipe.rest) <= 8192


def test_what_the_log_client_writes_is_understood(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    log = Log(write_fd, debug=True)
    log.info("a\nb")
    log.debug("d")
    data = os.read(read_fd, 4096)
    os.close(read_fd)
    os.close(write_fd)
    assert lines(tmp_path, data) == ["T imap-login: Info: a\\nb", "T imap-login: Debug: d"]


def test_destinations_by_type(tmp_path: Path) -> None:
    made = Writer(Settings(str(tmp_path / "main"), str(tmp_path / "info"), str(tmp_path / "debug"), ""))
    made.begin()
    made.feed(Pipe(-1, "a"), b"".join(b"\x01%c1 x\n" % kind for kind in range(1, 7)))
    made.end()
    assert (tmp_path / "debug").read_text() == "a: Debug: x\n"
    assert (tmp_path / "info").read_text() == "a: Info: x\n"
    assert re.findall(r"a: (\w+): x", (tmp_path / "main").read_text()) == ["Warning", "Error", "Fatal", "Panic"]
    assert (tmp_path / "main").stat().st_mode & 0o777 == 0o600


def test_debug_follows_info_by_default(tmp_path: Path) -> None:
    assert Settings("m", "i").paths() == ["i", "i", "m", "m", "m", "m"]
    assert Settings("m").paths() == ["m"] * 6


def test_reopen_makes_a_new_file(tmp_path: Path) -> None:
    made = writer(tmp_path)
    pipe = Pipe(-1, "a")
    made.feed(pipe, b"\x01\x021 one\n")
    made.end()
    (tmp_path / "log").rename(tmp_path / "log.1")
    made.reopen()
    made.feed(pipe, b"\x01\x021 two\n")
    made.end()
    assert (tmp_path / "log.1").read_text() == "T a: Info: one\n"
    assert (tmp_path / "log").read_text() == "T a: Info: two\n"


def test_a_failed_reopen_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    made = Writer(Settings(str(tmp_path / "dir" / "log"), log_timestamp=""))
    made.begin()
    (tmp_path / "dir").rename(tmp_path / "gone")
    made.reopen()
    made.end()
    assert "failed: No such file or directory" in (tmp_path / "gone" / "log").read_text()


def test_a_full_disk_is_survived() -> None:
    made = Writer(Settings("/dev/full", log_timestamp=""))
    made.begin()
    made.feed(Pipe(-1, "a"), b"\x01\x021 lost\n")
    made.end()
    made.end()


def test_a_closed_log_is_not_survived(tmp_path: Path) -> None:
    target = sink.FileSink(str(tmp_path / "log"))
    os.close(target._fd)
    target.put(1, b"", b"", b"x")
    with pytest.raises(LogFailed, match="Bad file descriptor"):
        target.flush()


def test_prepare_refuses_a_path_that_cannot_be_opened() -> None:
    conf = standin.Config("x", {"logging": {"log_path": "/nonexistent/log"}})
    with pytest.raises(ConfigInvalid, match="Can't open log file /nonexistent/log: No such file or directory"):
        process.prepare(conf, None)


@pytest.mark.parametrize(("template", "expected"), [
    ("%b %d %H:%M:%S ", r"\w{3} \d\d \d\d:\d\d:\d\d "), ("", ""), ("%Y.%{usecs} ", r"\d{4}\.250000 "),
    ("%{usecs}%%", r"250000%")])
def test_timestamps(template: str, expected: str) -> None:
    assert re.fullmatch(expected, Stamp(template).at(1_700_000_000.25).decode())


def test_timestamps_are_made_once_a_second() -> None:
    stamp = Stamp("%S")
    assert stamp.at(5.1) is stamp.at(5.9)
    assert stamp.at(6.0) == b"06"


class Pipes:
    """A reader with the pipes of a master and one service."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "log"
        self.writer = Writer(Settings(str(self.path), log_timestamp=""))
        self.master_in, self.master = os.pipe()
        self.service_in, self.service = os.pipe()
        for fd in (self.master_in, self.service_in):
            os.set_blocking(fd, False)
        self.reader = Reader(self.writer, [(self.master_in, "master"), (self.service_in, "auth")])
        self.wake, self.waker = os.pipe()

    def run(self) -> list[str]:
        os.close(self.master)
        os.close(self.service)
        self.reader.run(self.wake)
        os.close(self.wake)
        os.close(self.waker)
        return self.path.read_text().splitlines()


EXIT = b"\x01\x08%d 4 auth master: service(auth): child %d returned error 89 (Fatal failure)\n"


def test_a_child_has_its_last_words_before_its_obituary(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path)
    os.write(pipes.master, b"\x01\x087 4 auth master: service(auth): child 7 returned error 3\n")
    os.write(pipes.service, b"\x01\x027 last words\n")
    assert pipes.run() == ["auth: Info: last words", "auth: Fatal: master: service(auth): child 7 returned error 3"]


def test_error_89_is_left_out_when_the_child_said_why(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path)
    os.write(pipes.service, b"\x01\x057 this is why\n")
    os.write(pipes.master, EXIT % (7, 7))
    os.write(pipes.master, EXIT % (8, 8))
    assert pipes.run() == ["auth: Fatal: this is why",
                           "auth: Fatal: master: service(auth): child 8 returned error 89 (Fatal failure)"]


def test_only_the_master_writes_obituaries(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path)
    os.write(pipes.service, EXIT % (7, 7))
    os.write(pipes.master, b"\x01\x08nonsense\n")
    assert [re.sub(r"\d+", "N", line) for line in pipes.run()] == [
        "log(N): Error: auth sent a malformed frame", "log(N): Error: master sent a malformed frame"]


def test_an_unknown_service_has_an_obituary_too(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path)
    os.write(pipes.master, b"\x01\x087 3 old master: x\n")
    assert pipes.run() == ["old: Error: master: x"]


def test_a_line_is_cheap(tmp_path: Path) -> None:
    made = writer(tmp_path)
    pipe = Pipe(-1, "imap-login")
    chunk = b"\x01\x0212345 proxy(u1,127.0.0.1:27143): Started proxying to <127.0.0.1> (0.026 secs): user=<u1>\n" * 500
    best = min(_cost(made, pipe, chunk) for _ in range(5))
    assert best / 500 < 10e-6           # 0.5 us where it was written; loaded machines are slower


def _cost(made: Writer, pipe: Pipe, chunk: bytes) -> float:
    start = time.process_time()
    made.begin()
    made.feed(pipe, chunk)
    made.end()
    return time.process_time() - start
