"""What is wrong with a configuration is said at once, all of it."""
from __future__ import annotations

import pytest

from mailproxy.auth.sections import compile_filter
from mailproxy.auth.setup import build
from mailproxy.errors import ConfigInvalid
from tests.component.auth.scenario import Passdb, Scenario, StandIn

_STATIC = Passdb("static", "nopassword=y")


@pytest.mark.parametrize(("passdbs", "settings", "texts"), [
    ([Passdb("nosuch"), Passdb("")], {}, ["Unknown passdb driver 'nosuch'", "passdb is missing driver"]),
    ([Passdb("lua"), _STATIC], {}, ["Support not compiled in for passdb driver 'lua'"]),
    ([Passdb("static", "x=1", pass_=True)], {}, ["Last passdb can't have pass=yes"]),
    ([Passdb("static", master=True, deny=True), _STATIC], {}, ["Master passdb can't have deny=yes"]),
    ([Passdb("static", pass_=True, result_success="return-fail"), _STATIC], {}, ["pass=yes can't be used"]),
    ([Passdb("passwd-file"), _STATIC], {}, ["passwd-file: Missing args"]),
    ([Passdb("sql", "/nonexistent/x"), _STATIC], {}, ["Can't open configuration file /nonexistent/x"]),
    ([Passdb("static", result_failure="maybe"), _STATIC], {}, ["Unknown result_failure: maybe"]),
    ([Passdb("static", skip="always"), _STATIC], {}, ["Unknown skip: always"]),
    ([], {}, ["No passdbs specified in configuration file. PLAIN mechanism needs one"]),
    ([_STATIC], {"auth_mechanisms": ("plain", "telepathy")}, ["Unknown authentication mechanism 'TELEPATHY'"]),
    ([_STATIC], {"auth_mechanisms": ("plain", "gssapi")}, ["Support not compiled in for"]),
    ([_STATIC], {"auth_cache_size": 500}, ["auth_cache_size value is too small"]),
    ([_STATIC], {"auth_mechanisms": ("anonymous",), "auth_anonymous_username": ""}, ["anonymous_username not set"]),
])
def test_problems(passdbs: list[Passdb], settings: dict[str, object], texts: list[str]) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        build(StandIn(Scenario(passdbs, settings), "/tmp"))
    for text in texts:
        assert text in str(caught.value)


def test_equal_sections_stay_apart() -> None:
    passdbs = [Passdb("static", "nopassword=y", username_filter=("a",)), _STATIC]
    setup = build(StandIn(Scenario(passdbs), "/tmp"))
    assert len(setup.sections) == 2
    assert setup.sections[0].driver is not setup.sections[1].driver


@pytest.mark.parametrize(("patterns", "user", "accepted"), [
    ("*@*", "", False), ("*@*", "@", True), ("*@*", "testuser1", False), ("*@*", "u@d", True),
    ("!*@*", "testuser1", True), ("!*@*", "u@d", False), ("!*", "x", False), ("*@td *@td2", "u@td3", False),
    ("!t@td *@td", "t@td", False), ("!t@td *@td", "t2@td", True), ("*@td !t@td", "t@td", False),
    ("!t@td !t2@td", "t", True), ("!t@td,!t2@td", "t@td", False), ("[a]", "a", False),
])
def test_username_filter(patterns: str, user: str, accepted: bool) -> None:
    accepts = compile_filter((patterns,))
    assert accepts is not None
    assert accepts(user) is accepted
