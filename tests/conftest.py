"""Fixtures that every kind of test may use, and the rule that a skipped test is a failure."""
from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests import servers
from tests.certificates import Authority


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait for a time to pass."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that did not run has shown nothing: the run has failed."""
    if hasattr(session.config, "workerinput"):
        return                                  # of xdist: the main process counts
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _make_short_dir() -> Path:
    """Below /tmp, whatever TMPDIR says, and open to the servers' other users."""
    path = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    path.chmod(0o755)
    return path


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path is short enough for UNIX sockets below it."""
    path = _make_short_dir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A port that nobody uses now; call it once for each."""
    return servers.free_port


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """Issues certificates: `authority.issue("localhost", "127.0.0.1")`."""
    path = _make_short_dir()
    yield Authority(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def real_dovecot_backend() -> Iterator[servers.Server]:
    """A real Dovecot IMAP server on `port["imap"]`; any user name with servers.PASSWORD, empty mailboxes."""
    path = _make_short_dir()
    (path / "mail").mkdir(mode=0o777)
    (path / "mail").chmod(0o777)
    server = servers.dovecot(servers.BACKEND, path)
    try:
        server.wait("imap")
        yield server
    finally:
        server.stop()                           # its own leftovers are not ours to judge
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """No child process and no descriptor more than before (module-scoped servers run before and after)."""
    me = psutil.Process()
    children, fds = {child.pid for child in me.children(recursive=True)}, len(os.listdir("/proc/self/fd"))
    yield
    _, left = psutil.wait_procs([child for child in me.children(recursive=True) if child.pid not in children], 2.0)
    assert not left, f"processes left behind: {left}"
    assert len(os.listdir("/proc/self/fd")) <= fds, "descriptors left open"


@pytest.fixture
def mailproxy_server(no_leaks: None) -> Iterator[Callable[..., servers.Server]]:
    """Start `master.py -F` on a configuration text: mailproxy_server(text, "imap", "imaps") waits for the ports that
    stand as @imap@ and @imaps@ in it; `user` is who starts it.  The test fails if the server leaves a process or a
    traceback behind."""
    running: list[servers.Server] = []

    def start(text: str, *ports: str, user: str = "") -> servers.Server:
        server = servers.mailproxy(text, _make_short_dir(), user)
        running.append(server)
        server.wait(*ports)
        return server

    yield start
    problems = []
    for server in reversed(running):
        problems += server.stop()
        shutil.rmtree(server.directory, ignore_errors=True)
    assert not problems, "\n".join(problems)
