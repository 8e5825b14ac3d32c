"""A session that has ended is gone at once: no cycle keeps it until a collection, which workers rarely make."""
from __future__ import annotations

import gc
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.login import rehearsal
from mailproxy.login import setup as setups
from mailproxy.login.connection import Connection
from mailproxy.login.proxied import Proxied
from mailproxy.login.session import Session
from mailproxy.net.transport import Tls
from mailproxy.proto.imap.backend import ImapBackend
from mailproxy.proto.imap.frontend import ImapFrontend
from mailproxy.proto.submission.backend import SubmissionBackend
from mailproxy.proto.submission.frontend import SubmissionFrontend
from mailproxy.relay.relay import Relay
from tests.certificates import Authority

KINDS = (Connection, Session, Proxied, Relay, Tls, ImapFrontend, ImapBackend, SubmissionFrontend, SubmissionBackend)
CONF = """
protocols = imap submission
ssl = yes
ssl_cert = <{pair.certificate}
ssl_key = <{pair.key}
passdb {{
  driver = static
  args = nopassword=y
}}
"""


@pytest.mark.parametrize("protocol", ["imap", "submission"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_nothing_of_a_session_waits_for_the_collector(tmp_path: Path, tls: bool, protocol: str) -> None:
    path = tmp_path / "conf"
    path.write_text(CONF.format(pair=Authority(tmp_path).issue("localhost")))
    conf = config.load(str(path))
    setup = setups.prepare(conf, conf.services[f"{protocol}-login"])
    gc.collect()
    gc.disable()
    try:
        with ExitStack() as stack:
            sinks = rehearsal._sinks(stack)
            for _ in range(3):
                assert rehearsal._login(setup, rehearsal._SCRIPTS[protocol], tls, sinks)
        left = [type(each).__name__ for each in gc.get_objects() if isinstance(each, KINDS)]
    finally:
        gc.enable()
    assert left == []
