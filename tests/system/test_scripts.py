"""The documented routing script in a running server, and another version of it after a reload."""
from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tests import servers
from tests.component.auth.peer import Peer

_CONF = servers.HEAD + """
ssl = no
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
passdb {
  driver = python
  args = @dir@/route.py:lookup
}
service imap-login {
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = 0
  }
}
"""


def _hosts(server: servers.Server) -> dict[str, str]:
    """Where users go."""
    peer = Peer(str(server.directory / "run" / "auth-client"))
    answers = {f"u{number}": peer.auth(f"u{number}", "any") for number in range(20)}
    peer.close()
    for answer in answers.values():
        assert answer.startswith("OK\t"), answer
        assert "\tproxy" in answer
    return {user: answer.partition("\thost=")[2].partition("\t")[0] for user, answer in answers.items()}


def test_the_documented_example_and_a_reload() -> None:
    document = (servers.PROJECT / "docs" / "scripts-and-http.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", document, re.DOTALL)
    assert found
    script = found[1]
    with tempfile.TemporaryDirectory(prefix="mailproxy-script-") as directory:
        Path(directory).chmod(0o755)            # auth is not root
        path = Path(directory) / "route.py"
        path.write_text(script, encoding="utf-8")
        server = servers.mailproxy(_CONF, Path(directory))
        try:
            server.wait("imap")
            before = _hosts(server)
            assert set(before.values()) == {"10.0.0.11", "10.0.0.12", "10.0.0.13"}
            path.write_text(script.replace(', "10.0.0.13"', ""), encoding="utf-8")
            assert _hosts(server) == before
            server.reload()
            servers.wait_until(lambda: "10.0.0.13" not in _hosts(server).values(), what="the new script")
            after = _hosts(server)
            assert all(after[user] == host for user, host in before.items() if host != "10.0.0.13")
            path.write_text("def lookup(:", encoding="utf-8")
            server.reload()
            servers.wait_until(lambda: "route.py line 1" in server.log_text(), what="the complaint")
            assert _hosts(server) == after
        finally:
            problems = server.stop()
        assert not problems, "\n".join(problems)
