"""Any text is either a configuration or a ConfigInvalid that says where; never another exception."""
from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from mailproxy import config
from mailproxy.errors import ConfigInvalid
from tests.fuzz import examples

NAMES = st.sampled_from([
    "protocols", "listen", "ssl", "ssl_cert", "login_greeting", "login_trusted_networks", "auth_mechanisms", "log_path",
    "auth_cache_size", "login_proxy_timeout", "default_client_limit", "mail_location", "disable_plaintext_auth",
    "plugin/x", "port",
    "client_limit", "process_limit", "mode", "user", "driver", "args", "address", "vsz_limit", "idle_kill",
    "login_log_format",
    "login_log_format_elements", "ssl_min_protocol", "import_environment", "!include", "!include_try", "unknown",
    "imap_id_send",
])
VALUES = st.sampled_from([
    "yes", "no", "imap", "imap pop3", "10 s", "1M", "9" * 30, "9" * 5000, "-1", "0600", "0999", "1.5G", "$protocols x",
    "$", "$x$y",
    "%u %{", "%$", '"quoted', '"a\\"b"', "'x'", "</etc/hostname", "</nonexistent", "<", "127.0.0.0/8", "::/0", "*",
    "1.2.3.4/99",
    "\\", "a \\\n b", "plain login", "{", "}", "=", "#", "\0", "\udcff", "ä", "x" * 3000, "*.conf", "/dev/null", "",
    " ", "\t",
]) | st.text(max_size=10)
HEADS = st.sampled_from([
    "service imap-login {", "service auth {", "inet_listener imap {", "unix_listener x {", "passdb {", "userdb {",
    "protocol imap {",
    "protocol !imap {", "local 10.0.0.0/8 {", "remote 10.0.0.1 {", "local_name a.test {", "namespace {", "plugin {",
    "namespace x {",
    "service {", "passdb x {", "local x {", "mailbox Sent {", "ssl {", "local_name \"a b\" {", "service a b {",
    "metric x {", "}", "}}", "{",
])
LINES = (st.tuples(NAMES, st.sampled_from([" = ", "=", " ", " =", "= "]),
                   VALUES).map("".join) | HEADS | VALUES | st.just("}")
         | st.just("# comment") | st.just(""))
TEXTS = st.lists(LINES, max_size=14).map("\n".join)


def load(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "fuzz.conf"
        path.write_bytes(data)
        try:
            conf = config.load(str(path))
            for view in (conf.view(), conf.view("imap")):
                assert view.login.login_greeting is not None
            assert conf.passdbs("imap") is not None
            assert conf.services is not None
        except ConfigInvalid as error:
            refused = error
        else:
            return
    assert refused.problems
    assert all(problem.text for problem in refused.problems)
    assert "_ssl.c" not in str(refused)


@given(TEXTS.map(lambda text: text.encode("utf-8", "surrogateescape")))
@example(b"auth_cache_size = " + b"9" * 5000)
@example("auth_cache_size = \u00b2".encode())
@example(b"service imap-login {\n inet_listener imap {\n  port = " + b"9" * 5000 + b"\n }\n}")
@example(b"login_proxy_timeout = " + b"9" * 400 + b" s")
@examples(150)
def test_settings(data: bytes) -> None:
    load(data)


@given(st.binary(max_size=200))
@examples(50)
def test_bytes(data: bytes) -> None:
    load(data)
