"""What differs from the real thing on purpose, and limits; the rest is compared with doveconf itself."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailproxy import config
from mailproxy.config import parser
from mailproxy.errors import ConfigInvalid

Load = Callable[..., config.Config]
Refuse = Callable[..., list[str]]


def test_all_problems_at_once(refuse: Refuse) -> None:
    text = "foo = 1\nssl = maybe\nservice auth {\n bar = 2\n}\n!include more.conf\nprotocols = xyz\n"
    where = "Error in configuration file"
    assert refuse(text, {"more.conf": "\nbaz = 3\n"}) == [
        f"{where} main.conf line 1: Unknown setting: foo", f"{where} main.conf line 2: Invalid value: maybe",
        f"{where} main.conf line 4: Unknown setting: service {{ bar", f"{where} more.conf line 2: Unknown setting: baz",
        f"{where} main.conf: protocols: Unknown protocol: xyz"]


def test_contents_of_a_bad_section_are_not_reported_again(refuse: Refuse) -> None:
    assert len(refuse("foo x {\n bar = 1\n inner {\n }\n}\nprotocol imap {\n local 1.2.3.4 {\n  x = y\n }\n}\n")) == 2


def test_a_directory_is_not_an_empty_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"read\(.*\) failed: Is a directory"):
        config.load(str(tmp_path))


def test_an_included_directory_is_an_error(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    assert refuse("!include dir\n") == [
        "Error in configuration file main.conf line 1: Couldn't open include file dir: Is a directory"]


def test_decimal_mode_is_an_error(refuse: Refuse) -> None:
    assert "octal" in refuse("service auth {\nunix_listener x {\nmode = 600\n}\n}\n")[0]


def test_include_depth(refuse: Refuse, tmp_path: Path) -> None:
    chain = {f"{number}.conf": f"!include {number + 1}.conf\n" for number in range(parser.MAX_INCLUDES + 5)}
    assert "Recursive include file" in refuse("!include 0.conf\n", chain)[0]


def test_section_depth_and_number_of_problems(refuse: Refuse) -> None:
    assert len(refuse("a {\n" * 1000)) <= parser.MAX_PROBLEMS + 1
    assert len(refuse("foo\n" * 10_000)) == parser.MAX_PROBLEMS
    nested = "local 1.2.3.4 {\n" * 100 + "}\n" * 100
    assert any("too deeply" in text for text in refuse(nested))


def test_growing_values_stay_finite(refuse: Refuse) -> None:
    text = "mail_plugins = " + "x" * 1000 + "\n" + "mail_plugins = $mail_plugins $mail_plugins\n" * 40
    assert any("too long" in problem for problem in refuse(text))


def test_bytes_that_are_no_utf8_survive(load: Load) -> None:
    conf = load(b"login_greeting = caf\xe9\n")
    assert conf.view().login.login_greeting.encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_packages_of_a_distribution_start_the_protocol_list(load: Load) -> None:
    others = {"a.protocol": "protocols = $protocols imap\n", "b.protocol": "protocols = $protocols sieve\n"}
    assert load("!include_try *.protocol\n", others).protocols == ("imap", "sieve")
    assert load("protocols = $protocols sieve\n").protocols == ("imap", "pop3", "lmtp", "sieve")
    assert load("").protocols == ("imap", "pop3", "lmtp")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([
    "protocol imap {", "local 10.0.0.0/8 {", "local_name a {", "service imap-login {", "service {", "passdb {", "}",
    "passdb x {", "plugin {", "auth default {", "ssl = no", "ssl {", "port = 1", "a/b/c = d", "service/auth/mode = 1",
    "inet_listener {", "unix_listener x {", "plugin/x = y", "name = z", "$x = $y", "login_greeting = $ssl x",
    "listen = 1.2.3.4:5", "ssl_listen = x", "protocols = imaps", "!include", "driver = <x", "x \\", "mode = <x"]),
    max_size=14))
def test_any_order_of_lines_loads_or_is_refused(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "any.conf"
    path.write_text("\n".join(lines))
    try:
        config.load(str(path))
    except ConfigInvalid as error:
        if not error.problems:
            raise
