"""Any text is either a configuration or a ConfigInvalid that says where; never another exception."""
from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from mailproxy import config
from mailproxy.config.dump import dump
from mailproxy.config.show import show
from mailproxy.errors import ConfigInvalid
from tests.component.config.snippets import BAD, GOOD, WHOLE
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


#: Files that people wrote, and each way of being wrong that the other tests know.
SEEDS = [text.encode() for text in (*GOOD.values(), *BAD.values(), *WHOLE.values())]
SEEDS += [path.read_bytes() for path in sorted(Path("/usr/share/dovecot").glob("conf.d/*.conf"))]
FLAGS = st.text("nNadPxsh", max_size=4)
CONDITIONS = st.lists(st.sampled_from([
    "service=imap", "protocol=pop3", "protocol=", "lname=a.test", "lname=A b", "local=10.0.0.1", "remote=::1/128",
    "local=", "local=10.0.0.1/99", "remote=1.2.3.4.5.invalid", "service", "=", "x=y"]), max_size=2)
SHOWN = st.lists(st.sampled_from([
    "ssl", "ssl_key", "service", "service/imap-login", "service/imap-login/user", "passdb", "passdb/0", "passdb/0/args",
    "passdb/\xb2/args", "namespace/x/mailbox/a", "plugin", "plugin/x", "service/auth/unix_listener/login\\slogin/mode",
    "", "/", "//", "service//x", "nosuch", "service/imap-login/inet_listener"]) | st.text(max_size=4), max_size=2)
MUTATIONS = st.lists(st.tuples(
    st.sampled_from(["drop", "double", "swap", "cut", "flip", "insert", "join", "splice"]),
    st.integers(0, 10_000), st.integers(0, 10_000), st.binary(max_size=3) | LINES.map(
        lambda line: line.encode("utf-8", "surrogateescape"))), max_size=6)


def mutated(data: bytes, other: bytes, mutations: list[tuple[str, int, int, bytes]]) -> bytes:
    """A file after some slips of an editor."""
    lines = data.splitlines(keepends=True)
    for kind, first, second, text in mutations:
        if not lines:
            return text
        at, to = first % len(lines), second % len(lines)
        line = lines[at]
        where = second % (len(line) + 1)
        if kind == "drop":
            del lines[at]
        elif kind == "double":
            lines.insert(to, line)
        elif kind == "swap":
            lines[at], lines[to] = lines[to], line
        elif kind == "cut":
            lines[at] = line[:where]
        elif kind == "flip":
            lines[at] = line[:where] + text[:1] + line[where + 1:]
        elif kind == "insert":
            lines.insert(at, text + b"\n")
        elif kind == "join":
            lines[at] = line.rstrip(b"\n") + text
        else:
            lines[at:at] = other.splitlines(keepends=True)[to:]
    return b"".join(lines)


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


@given(st.sampled_from(SEEDS), st.sampled_from(SEEDS), MUTATIONS, FLAGS, CONDITIONS, SHOWN)
@examples(150)
def test_slips(data: bytes, other: bytes, mutations: list[tuple[str, int, int, bytes]], flags: str,
               conditions: list[str], names: list[str]) -> None:
    """A file with slips is refused with words, or loads and can be printed in every way."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "fuzz.conf"
        text = mutated(data, other, mutations)
        path.write_bytes(text)
        out = dumped(path)
        if out is None:
            return
        conf = config.load(str(path))
        for asked in ([], names):
            with contextlib.suppress(ConfigInvalid, LookupError, ValueError):
                show(conf, io.StringIO(), flags, conditions, asked)
        # What is printed means the same when it is read, but for quotes around signs, which Dovecot does not print.
        if not any(sign in text for sign in (b'"', b"'", b"$", b"<")) and "# hidden, use -P" not in out:
            path.write_text(out, errors="surrogateescape")
            assert dumped(path) == out


def dumped(path: Path) -> str | None:
    """None: refused, with words."""
    out = io.StringIO()
    try:
        dump(config.load(str(path)), out)
    except ConfigInvalid as error:
        refused = error
    else:
        return out.getvalue()
    assert refused.problems
    assert all(problem.text and len(problem.text) < 3000 for problem in refused.problems)
    return None


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
