"""Mechanisms through the whole proxy: gsasl logs in with each, and we log in with another one to a real Dovecot."""
from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers

_BACKEND = servers.HEAD + """
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256
auth_failure_delay = 0
passdb {
  driver = static
  args = password=inner
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=@dir@/home/%u
}
mail_location = maildir:~/Maildir
first_valid_uid = 1
service imap-login {
  inet_listener imap {
    port = @imap@
  }
}
"""
_PROXY = servers.HEAD + """
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
auth_failure_delay = 0
auth_verbose = yes
passdb {
  driver = passwd-file
  args = @dir@/users
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
_MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    directory = tmp_path_factory.mktemp("backend")
    server = servers.dovecot(_BACKEND, directory)
    server.wait("imap")
    yield server
    server.stop()


def _gsasl(port: int, mech: str, user: str, password: str) -> tuple[int, str]:
    done = subprocess.run(
        ["gsasl", "--imap", "--connect", f"127.0.0.1:{port}", "-m", mech, "-a", user, "-z", user, "-p", password,
         "--no-starttls", "--hostname", "127.0.0.1", "--service", "imap", "--no-cb", "--quality-of-protection=qop-auth",
         "--realm", ""],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False, text=True)
    return done.returncode, done.stdout + done.stderr


def test_gsasl_in_and_every_mechanism_out(mailproxy_server: Callable[..., servers.Server], backend: servers.Server,
                                          short_dir: Path) -> None:
    users = "".join(
        f"{mech.lower()}:{{PLAIN}}secret::::::proxy=y host=127.0.0.1 port={backend.port['imap']} proxy_mech={mech} "
        "pass=inner\n" for mech in _MECHANISMS)
    (short_dir / "users").write_text(users)
    (short_dir / "users").chmod(0o644)
    proxy = mailproxy_server(_PROXY.replace("@dir@/users", str(short_dir / "users")), "imap")
    for mech, inner in zip(_MECHANISMS, (*_MECHANISMS[1:], _MECHANISMS[0]), strict=True):
        code, output = _gsasl(proxy.port["imap"], mech, inner.lower(), "secret")
        assert code == 0, output + proxy.log_text()
        code, output = _gsasl(proxy.port["imap"], mech, inner.lower(), "wrong")
        assert code != 0, output
    log = proxy.log_text()
    assert log.count("Started proxying") == len(_MECHANISMS)
    for mech in _MECHANISMS:
        assert f"user=<{mech.lower()}>" in log
