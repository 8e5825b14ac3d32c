"""Master users: whose password counts, and whose fields."""
from __future__ import annotations

from tests.differential_auth.case import Ask, Case, login, passdb, userdb

_FILES = {"master": "admin:{PLAIN}mpw::::::fm=9\nren:{PLAIN}mpw::::::user=renamed\nnope:{PLAIN}x::::::nologin=y\n",
          "more": "boss:{PLAIN}bpw::::::fx=1\nadmin:{PLAIN}other\n",
          "b": "joe:{PLAIN}pwB::::::fb=2 userdb_home=/h/joe\nann:{PLAIN}annpw::::::fb=3\n"
               "px:{PLAIN}u::::::proxy=y host=10.0.0.1\n"
               "pxs:{PLAIN}u::::::proxy=y host=10.0.0.1 destuser=%u*adm pass=p\n"
               "pxm:{PLAIN}u::::::proxy=y host=10.0.0.1 master= pass=p\ndis:{PLAIN}u::::::nologin=y\n",
          "deny": "ann:\n"}
_ASKS: list[Ask] = [
    login("joe*admin", "mpw"), login("joe*admin", "bad"), login("nobody*admin", "mpw"), login("nobody*admin", "bad"),
    login("joe*joe", "pwB"), login("*admin", "mpw"), login("a*b*admin", "mpw"), login("joe*", "x"),
    login("px*admin", "mpw"), login("pxs*admin", "mpw"), login("pxm*admin", "mpw"), login("ADMIN", "mpw"),
    login("admin", "mpw", authzid="joe"), login("joe*admin", "mpw", authzid="ann"),
    login("admin", "mpw", authzid="admin"), login("joe*nomaster", "x"), login("j o*admin", "mpw"),
    login("JOE*ADMIN", "mpw"), login("joe*ren", "mpw"), login("dis*admin", "mpw"), login("joe*nope", "x"),
    login("ann*boss", "bpw"), login("ann*admin", "mpw"), login("joe*admin", "other"),
    login("joe*admin", "mpw", mech="LOGIN")]
_B = passdb("passwd-file", "@case@/b")
_VARIABLES = "%u,%n,%{login_user},%{login_username},%{master_user},%{auth_user},%{orig_user},%{orig_username}"


def _master(name: str = "master", **settings: object) -> str:
    return passdb("passwd-file", f"@case@/{name}", master="yes", **settings)


def _case(name: str, *sections: str, asks: list[Ask] = _ASKS, ours: dict[str, str] | None = None,
          why: str = "") -> Case:
    return Case(name, "".join(sections), asks, _FILES, ours=ours or {}, why=why)


CASES = [
    _case("pass", _master(pass_="yes"), _B),
    _case("plain", _master(), _B),
    _case("success-continue", _master(result_success="continue"), _B),
    _case("success-continue-ok", _master(result_success="continue-ok"), _B),
    _case("success-continue-fail", _master(result_success="continue-fail"), _B),
    _case("success-return", _master(result_success="return"), _B),
    _case("success-return-fail", _master(result_success="return-fail"), _B),
    _case("failure-return-ok", _master(result_failure="return-ok"), _B),
    _case("failure-return", _master(result_failure="return"), _master("more"), _B),
    _case("none", _B),
    _case("two", _master(), _master("more"), _B),
    _case("two-pass", _master(pass_="yes"), _master("more", pass_="yes"), _B),
    _case("after", _B, _master(pass_="yes")),
    _case("deny-target", _master(pass_="yes"), passdb("passwd-file", "@case@/deny", deny="yes"), _B),
    _case("filter", _master(username_filter="a*"), _master("more", username_filter="!a*"), _B),
    _case("target-filter", _master(pass_="yes"), passdb("passwd-file", "@case@/b", username_filter="j*")),
    _case("internal", _master(override_fields="x=%{nosuch}"), _B),
    _case("target-internal", _master(pass_="yes"), passdb("passwd-file", "@case@/b", override_fields="x=%{nosuch}")),
    _case("noauthenticate", _master(override_fields="noauthenticate=y"), _B),
    _case("rename-target", _master(pass_="yes"), passdb("passwd-file", "@case@/b", override_fields="user=other")),
    _case("skip", _master(pass_="yes"), passdb("passwd-file", "@case@/b", skip="authenticated"),
          passdb("static", "nopassword=y s=1", skip="unauthenticated")),
    _case("variables", _master(pass_="yes", override_fields=f"m={_VARIABLES}"),
          passdb("passwd-file", "@case@/b", override_fields=f"n={_VARIABLES}"),
          userdb("static", f"uid=1000 gid=1000 home=/h/%u v={_VARIABLES}")),
    _case("userdb", _master(pass_="yes"), _B, userdb("passwd-file", "@case@/users")),
    _case("userdb-master-user", _master(), _B, userdb("static", "uid=1000 gid=1000 master_user=%u")),
]
CASES[-2].files = {**_FILES, "users": "joe:x:1000:1000::/h/joe::\nadmin:x:1001:1001::/h/admin::\n"}
