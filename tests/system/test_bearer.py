"""Tokens through the whole proxy: XOAUTH2 and OAUTHBEARER in, a token server beside, the token out to the backend
(proxy_mech); and a password that buys a token for the backend.  The same bytes as with a real Dovecot in our place."""
from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests import servers
from tests.component.auth import token_server
from tests.component.auth.token_server import USER
from tests.fakes.attack import Peer, backend
from tests.fakes.http_answers import HttpAnswers, http_answers

_CONF = servers.HEAD + """
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain xoauth2 oauthbearer
auth_verbose = yes
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
auth_failure_delay = 0
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = @dir@/token.conf
}
passdb {
  driver = oauth2
  mechanisms = plain
  args = @dir@/grant.conf
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
_TOKEN = """introspection_mode = auth
introspection_url = URL/introspect
openid_configuration_url = https://idp.example/.well-known/openid-configuration
pass_attrs = proxy=y host=127.0.0.1 port=BACKEND proxy_mech=%m
"""
_GRANT = """grant_url = URL/grant
use_grant_password = yes
introspection_mode = post
introspection_url = URL/introspect
client_id = cid
client_secret = secret
pass_attrs = proxy=y host=127.0.0.1 port=BACKEND proxy_mech=xoauth2 pass=%{oauth2:access_token}
"""
_MECHANISMS = {
    "XOAUTH2": f"user={USER}\x01auth=Bearer %s\x01\x01",
    "OAUTHBEARER": f"n,a={USER},\x01host=x\x01port=143\x01auth=Bearer %s\x01\x01",
}


def _encoded(text: str) -> bytes:
    return base64.b64encode(text.encode())


def _talk(start: Callable[[str, Path], servers.Server], web: HttpAnswers) -> tuple[list[bytes], list[bytes]]:
    """What clients heard, and what the backend did."""
    heard: list[bytes] = []
    seen: list[bytes] = []

    def behave(peer: Peer) -> None:
        peer.send(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2 AUTH=OAUTHBEARER] ready\r\n")
        while line := peer.line():
            tag, _, rest = line.partition(b" ")
            if rest.startswith(b"AUTHENTICATE"):
                word, _, message = rest.strip().rpartition(b" ")
                seen.append(word + b" " + base64.b64decode(message))
            peer.send(tag + b" OK done\r\n")

    with backend(behave) as one, tempfile.TemporaryDirectory(prefix="mailproxy-bearer-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        for name, text in (("token.conf", _TOKEN), ("grant.conf", _GRANT)):
            (place / name).write_text(text.replace("URL", web.url).replace("BACKEND", str(one.port)))
        server = start(_CONF, place)
        try:
            server.wait("imap")
            for name, message in _MECHANISMS.items():
                for token in ("ok", "other", "s500"):
                    with Peer(server.port["imap"]) as client:
                        client.line()
                        client.send(b"a AUTHENTICATE %b %b\r\n" % (name.encode(), _encoded(message % token)))
                        line = client.line()
                        if line.startswith(b"+ "):
                            heard.append(base64.b64decode(line[2:]))
                            client.send(b"\r\n")
                            line = client.line()
                        heard.append(line)
            for password in ("good", "wrong", "client"):
                with Peer(server.port["imap"]) as client:
                    client.line()
                    heard.append(client.ask(b"a LOGIN %b %b" % (USER.encode(), password.encode())))
        finally:
            problems = server.stop()
        assert not problems, "\n".join(problems)
    # the port is another in each run
    return heard, [line.replace(b"port=%d" % one.port, b"port=N") for line in seen]


def _timeless(lines: list[bytes]) -> list[bytes]:
    return [re.sub(rb"\[[^][ ]+:\d{4}-[^]]*\]", b"[host:time]", line) for line in lines]


def test_tokens_reach_the_backend() -> None:
    with http_answers(token_server.PATHS) as web:
        theirs = _talk(servers.dovecot, web)
        mine = _talk(servers.mailproxy, web)
    assert _timeless(mine[0]) == _timeless(theirs[0])
    assert mine[1] == theirs[1]
    assert [line.partition(b" ")[2][:11] for line in mine[1]] == [b"XOAUTH2 use", b"OAUTHBEARER", b"XOAUTH2 use"]
