"""Postfix delivers over LMTP through mailproxy to two backends: what a mail server makes of our answers."""
from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.lmtp_server import LmtpServer
from tests.servers import HOST, Server, free_port, wait_until

from .test_lmtp import _on, _start

_MAIN = """
compatibility_level = 3.6
queue_directory = {path}/queue
data_directory = {path}/data
maillog_file = {path}/postfix.log
maillog_file_prefixes = /tmp
maillog_file_permissions = 0644
multi_instance_enable = yes
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.test
mydestination =
local_recipient_maps =
alias_maps =
virtual_mailbox_domains = dom.test
virtual_mailbox_maps =
virtual_transport = lmtp:[127.0.0.1]:{lmtp}
smtpd_recipient_restrictions = reject_unauth_destination
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
authorized_submit_users =
syslog_name = postfix-test
"""
_MASTER = """
{smtp} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """An instance of its own: configuration, queue, log and port."""

    def __init__(self, path: Path, lmtp: int) -> None:
        self.path = path
        self.port = free_port()
        program = shutil.which("postfix", path="/usr/sbin")
        assert program, "this test needs Postfix: install postfix"
        self._program = program
        for name in ("queue", "data", "conf"):
            (path / name).mkdir()
        os.chown(path / "data", pwd.getpwnam("postfix").pw_uid, -1)
        (path / "conf/main.cf").write_text(_MAIN.format(path=path, lmtp=lmtp))
        (path / "conf/master.cf").write_text(_MASTER.format(smtp=f"127.0.0.1:{self.port}"))
        self._run("start", check=True)

    def _run(self, command: str, *, check: bool) -> None:
        done = subprocess.run([self._program, "-c", str(self.path / "conf"), command], capture_output=True, text=True,
                              timeout=60, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr + self.log()

    def log(self) -> str:
        path = self.path / "postfix.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        self._run("stop", check=False)


@pytest.fixture
def postfix(short_dir: Path) -> Iterator[Callable[[Server], Postfix]]:
    running: list[Postfix] = []

    def start(server: Server) -> Postfix:
        place = short_dir / "postfix"
        place.mkdir()
        running.append(Postfix(place, server.port["lmtp"]))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def test_postfix_delivers_through_the_proxy(mailproxy_server: Callable[..., Server], short_dir: Path,
                                            postfix: Callable[[Server], Postfix]) -> None:
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(contextlib.closing(LmtpServer(refuse=refuse)))
                    for refuse in (frozenset[str](), frozenset(("d@dom.test",))))
        server = _start(mailproxy_server, short_dir, {
            "a@dom.test": _on(one), "b@dom.test": _on(two), "c@dom.test": _on(one), "d@dom.test": _on(two)})
        mta = postfix(server)
        body = "Subject: through\r\n\r\n" + "A line that is long enough to be one.\r\n..\r\n.x\r\n" * 2000
        with smtplib.SMTP(HOST, mta.port, timeout=30) as client:
            client.sendmail("", [f"{name}@dom.test" for name in ("a", "b", "c", "d", "nobody")], body)

        def settled(recipient: str, status: str) -> bool:
            return any(f"to=<{recipient}@dom.test>" in line and f"status={status}" in line
                       for line in mta.log().splitlines())
        for name, status in (("a", "sent"), ("b", "sent"), ("c", "sent"), ("d", "deferred"), ("nobody", "bounced")):
            wait_until(functools.partial(settled, name, status), 30.0, f"{name} {status}\n{mta.log()}")
        assert one.messages[0].recipients == ["a@dom.test", "c@dom.test"]
        assert b"Received: from mx.test" in one.messages[0].head
        assert one.messages[0].size > len(body)
        # the recipient that a backend refused for now comes again, alone
        wait_until(lambda: ["d@dom.test"] in [message.recipients for message in two.messages], 30.0, mta.log())
        assert [message.recipients for message in two.messages].count(["b@dom.test", "d@dom.test"]) == 1
        assert "4.2.2" in mta.log()
        assert "5.1.1" in mta.log()
