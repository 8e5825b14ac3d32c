"""%variables: modifiers, cuts, functions, errors, escaping."""
from __future__ import annotations

import pytest

from mailproxy.variables import ExpandError, compile

_NAMES = {"u": "user", "user": "user", "n": "username", "username": "username", "d": "domain", "domain": "domain",
          "a": "lport"}
_VALUES = {"user": "Joe@A.b@C", "username": "Joe", "domain": "A.b@C", "lport": "143"}


@pytest.mark.parametrize(("text", "result"), [
    ("%Lu", "joe@a.b@c"), ("%2u", "Jo"), ("%0u", "Joe@A.b@C"), ("%05a", "00143"), ("%2.3u", "e@A"), ("%-3.2u", "b@"),
    ("%3.0u", "@A.b@C"), ("%-1u", "J"), ("%1.-1n", "o"), ("%.3u", "Joe"), ("%Ru", "C@b.A@eoJ"),
    ("%Mn", "3a368818b7341d48660e8dd6c5a77dbe"), ("%Hu", "9441713"), ("%3Hu", "2"), ("%2.100Hu", "63"),
    ("%Nu", "ceda9476"), ("%16Nu", "6"), ("%2.100Nu", "0e"), ("%2.05n", "0000e"), ("%Dd", "A,dc=b@C"),
    ("%L{user}", "joe@a.b@c"), ("%U{username}", "JOE"), ("%1.2{domain}", ".b"), ("%Xa", "8f"),
    ("%{sha1;truncate=16:user}", "508e"), ("%{sha1;format=base64:user}", "UI4p50Qfck3yhA+ewomo23OMAEM="),
    ("%{if;%a;>;100;yes;no}", "yes"), ("%{if;%u;*;Joe*;A%n;B}", "AJoe"), ("%{if;%u;~;^x;A}", ""),
    ("%%u %u%%", "%u Joe@A.b@C%"), ("x%", "x"), ("%L", ""),
])
def test_expansion(text: str, result: str) -> None:
    assert compile(text, _NAMES).expand(_VALUES) == result


@pytest.mark.parametrize(("text", "error"), [
    ("%z", "Unknown variable '%z'"), ("%{nosuch}", "Unknown variable '%nosuch'"), ("%{sha1}", "Unknown variable '%'"),
    ("%{user", "Unknown variable '%'"), ("%{if;x;==;1;a;b}", r"if: x \(lhs\) is not a number"),
    ("%{if;x;y}", "if: requires four or five parameters, got 2"),
])
def test_errors_come_with_expansion(text: str, error: str) -> None:
    template = compile(text, _NAMES)
    with pytest.raises(ExpandError, match=error):
        template.expand(_VALUES)


def test_values_are_never_expanded_again() -> None:
    assert compile("[%u]", _NAMES).expand({"user": "%n%{if;1;==;1;x}"}) == "[%n%{if;1;==;1;x}]"


def test_escape_comes_after_the_cut() -> None:
    escape = str.maketrans({"'": "''"})
    template = compile("'%5u'", _NAMES, escape=lambda value: value.translate(escape))
    assert template.expand({"user": "abcd'xyz"}) == "'abcd'''"
    inner = compile("%{if;%u;eq;a';'%u';no}", _NAMES, escape=lambda value: value.translate(escape))
    assert inner.expand({"user": "a'"}) == "'a'''"


def test_inputs_are_known() -> None:
    assert compile("%n@%d %Lu", _NAMES).key_variables == ("username", "domain", "user")
    assert compile("%{if;%u;eq;x;%a;%n} %{md5:domain}", _NAMES).key_variables == (
        "user", "lport", "username", "domain")
    assert compile("constant 100%%", _NAMES).constant == "constant 100%"
