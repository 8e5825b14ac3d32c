"""What one database's answer means for the next one."""
from __future__ import annotations

from tests.differential_auth.case import Ask, Case, login, pass_, passdb, user

_FILES = {"a": "joe:{PLAIN}pwA::::::fa=1 nodelay=y userdb_home=/a\n",
          "b": "joe:{PLAIN}pwB::::::fb=2 userdb_mail=b\nann:{PLAIN}annpw::::::fb=3\n",
          "na": "joe:{PLAIN}zzz::::::noauthenticate=y fc=3 nodelay=y\n", "m": "other:{PLAIN}x\n", "deny": "joe:\n"}
_ASKS: list[Ask] = [login("joe", "pwA"), login("joe", "pwB"), login("joe", "bad"), login("ann", "annpw"),
                    login("nobody", "x"), pass_("joe"), pass_("nobody"), user("joe"), user("nobody")]
_RULES = ("return", "return-ok", "return-fail", "continue", "continue-ok", "continue-fail")
_BROKEN = "x=%{nosuch}"


def _a(**settings: object) -> str:
    return passdb("passwd-file", "@case@/a", **settings)


def _b(**settings: object) -> str:
    return passdb("passwd-file", "@case@/b", **settings)


_NA, _M = passdb("passwd-file", "@case@/na"), passdb("passwd-file", "@case@/m")
_DENY = passdb("passwd-file", "@case@/deny", deny="yes")
_STATIC = passdb("static", "nopassword=y final=1", skip="unauthenticated")


def _chain(name: str, *sections: str, why: str = "", ours: dict[str, str] | None = None) -> Case:
    return Case(name, "".join(sections), _ASKS, _FILES, ours=ours or {}, why=why)


CASES = [
    _chain("a-b", _a(), _b()),
    _chain("b-a", _b(), _a()),
    _chain("a-alone", _a()),
    _chain("deny-first", _DENY, _b()),
    _chain("deny-last", _b(), _DENY),
    _chain("deny-middle", _a(), _DENY, _b()),
    _chain("deny-overrides", passdb("passwd-file", "@case@/deny", deny="yes", override_fields="reason=gone"), _b()),
    _chain("deny-default-fields", passdb("passwd-file", "@case@/deny", deny="yes", default_fields="nodelay=y"), _b()),
    _chain("deny-broken", passdb("passwd-file", "@case@/deny", deny="yes", override_fields=_BROKEN), _b()),
    _chain("deny-by-static", passdb("static", "reason=all", deny="yes", username_filter="ann"), _b()),
    *(_chain(f"success-{rule}", _a(result_success=rule), _b()) for rule in _RULES),
    *(_chain(f"success-{rule}-last", _a(result_success=rule)) for rule in _RULES),
    *(_chain(f"success-{rule}-missing", _a(result_success=rule), _M) for rule in _RULES),
    *(_chain(f"failure-{rule}", _a(result_failure=rule), _b()) for rule in _RULES),
    *(_chain(f"failure-{rule}-last", _b(), _a(result_failure=rule)) for rule in _RULES),
    *(_chain(f"internal-{rule}", _a(override_fields=_BROKEN, result_internalfail=rule), _b()) for rule in _RULES),
    *(_chain(f"internal-{rule}-last", _b(), _a(override_fields=_BROKEN, result_internalfail=rule)) for rule in _RULES),
    *(_chain(f"success-{one}-failure-{two}", _a(result_success=one), _b(result_failure=two))
      for one in ("continue", "continue-ok", "continue-fail") for two in ("return", "return-ok", "return-fail")),
    *(_chain(f"failure-{one}-success-{two}", _a(result_failure=one), _b(result_success=two))
      for one in ("continue-ok", "continue-fail") for two in ("return", "return-fail", "continue-fail")),
    _chain("three-continue", _a(result_success="continue"), _b(result_success="continue", result_failure="continue"),
           passdb("static", "nopassword=y last=1")),
    _chain("internal-then-unknown", _a(override_fields=_BROKEN), _M),
    _chain("unknown-then-internal", _M, _a(override_fields=_BROKEN)),
    _chain("fail-field", _a(override_fields="fail=y"), _b()),
    _chain("fail-field-last", _b(), _a(override_fields="fail=y")),
    _chain("skip", _a(result_success="continue"), _b(skip="authenticated"), _STATIC),
    _chain("skip-authenticated-first", _a(skip="authenticated"), _b()),
    _chain("skip-authenticated-all", _a(result_success="continue-ok"), _b(skip="authenticated")),
    _chain("skip-unauthenticated-first", _a(skip="unauthenticated"), _b()),
    _chain("skip-unauthenticated-last", _a(result_success="continue-fail"), _b(skip="unauthenticated")),
    _chain("skip-all", _a(skip="unauthenticated")),
    # a single "none" makes Dovecot read behind its list: it crashes now and then
    _chain("mechanisms-none", _a(mechanisms="none none"), _b()),
    _chain("mechanisms-login", _a(mechanisms="login")),
    _chain("mechanisms-plain", _a(mechanisms="plain login")),
    _chain("mechanisms-comma", _a(mechanisms="LOGIN,none"), _b(mechanisms="PLAIN,none")),
    _chain("filter", _a(username_filter="*@*"), _b(username_filter="!ann")),
    _chain("filter-many", _a(username_filter="j* !joe"), _b(username_filter="joe,ann")),
    _chain("filter-all", _a(username_filter="!*"), _b(username_filter="n*")),
    _chain("noauthenticate", _NA, _b()),
    _chain("noauthenticate-last", _NA),
    _chain("noauthenticate-failure-return", passdb("passwd-file", "@case@/na", result_failure="return-fail"), _b()),
    _chain("noauthenticate-override", _a(override_fields="noauthenticate=y"), _b()),
    _chain("noauthenticate-default", _a(default_fields="noauthenticate=y"), _b()),
    _chain("nodelay-static", passdb("static", "nopassword=y noauthenticate=y nodelay=y"), _b()),
    _chain("defaults", _a(default_fields="fa:protected=def x=%u y=%{passdb:x}z",
           override_fields="o=%{passdb:fa} x:remove"),
           _b()),
    _chain("defaults-overridden", _a(default_fields="fa=def user=zed",
           override_fields="fa:protected=over z:protected=1"),
           _b()),
    _chain("defaults-password", _a(default_fields="nopassword=y"), _b()),
    _chain("override-nopassword", _a(override_fields="nopassword=y"), _b()),
    _chain("override-on-failure", _a(override_fields="seen=a"), _b(override_fields="seen:protected=b")),
    _chain("bad-override", _a(override_fields=_BROKEN), _b()),
    _chain("bad-default", _a(default_fields="x=%z"), _b()),
    _chain("bad-default-return", _a(default_fields="x=%z", result_internalfail="return-fail"), _b()),
    _chain("pass", _a(pass_="yes"), _b()),
    _chain("login-user", _a(override_fields="login_user=ann"), _b()),
    _chain("login-user-continue", _a(override_fields="login_user=ann", result_success="continue"), _b()),
    _chain("rename-between", _a(override_fields="user=ann", result_success="continue"), _b()),
    _chain("rename-and-fail", _a(override_fields="user=ann", result_success="continue-fail"), _b()),
]
