"""Scenarios with logins whose answers must be those of a real Dovecot."""
from __future__ import annotations

from dataclasses import replace

from tests.component.auth.scenario import Passdb, Scenario

#: (user, password, parameters …); a fourth element "authzid=x" is the SASL authzid.
Login = tuple[str, ...]

_A = "joe:{PLAIN}pwA::::::fa=1 nodelay=y\n"
_B = "joe:{PLAIN}pwB::::::fb=2\nann:{PLAIN}annpw::::::fb=3\n"
_NA = "joe:{PLAIN}zzz::::::noauthenticate=y fc=3 nodelay=y\n"
_FILES = {"a": _A, "b": _B, "na": _NA, "m": "other:{PLAIN}x\n", "deny": "joe:\n"}
A, B = Passdb("passwd-file", "@DIR@/a"), Passdb("passwd-file", "@DIR@/b")
NA, M = Passdb("passwd-file", "@DIR@/na"), Passdb("passwd-file", "@DIR@/m")
DENY = Passdb("passwd-file", "@DIR@/deny", deny=True)
_LOGINS: list[Login] = [("joe", "pwA"), ("joe", "pwB"), ("joe", "bad"), ("ann", "annpw"), ("nobody", "x")]


def _chain(*passdbs: Passdb) -> tuple[Scenario, list[Login]]:
    return Scenario(list(passdbs), files=_FILES), _LOGINS


_USERS = """u2:{PLAIN}pw2:1002:1003:g:/home/u2:/bin/sh:userdb_mail=x proxy=y host=127.0.0.9 allow_nets=127.0.0.0/8,local
prox:{PLAIN}pw::::::proxy=y host=10.1.2.3 port=10143 destuser=other proxy_timeout=5
proxno:{PLAIN}pw::::::proxy=no host=10.1.2.3
proxm:{PLAIN}pw::::::proxy_maybe=y host=127.0.0.1 port=143
proxa:{PLAIN}pw::::::proxy_maybe=y proxy_always=y host=127.0.0.1 port=143 destuser=d
proxself:{PLAIN}pw::::::proxy_maybe=y host=127.0.0.2
nohost:{PLAIN}pw::::::proxy=y
named:{PLAIN}pw::::::proxy=y host=localhost
hip:{PLAIN}pw::::::proxy=y host=a.example hostip=10.0.0.1
badip:{PLAIN}pw::::::proxy=y host=a.example hostip=zz
baddns:{PLAIN}pw::::::proxy=y host=nosuch.invalid nodelay=y
dis:{PLAIN}x::::::nologin=y reason=Maintenance
nop:::::::nopassword=y
nopbad:{PLAIN}x::::::nopassword=y
nopw:::::::a=1
empty:{PLAIN}
rn:{PLAIN}pw::::::user=newname
rnd:{PLAIN}pw::::::domain=ex.com
rnn:{PLAIN}pw::::::username=other x=%u
rne:{PLAIN}pw::::::user=
net:{PLAIN}pw::::::allow_nets=10.0.0.0/8,192.168.1.1
net6:{PLAIN}pw::::::allow_nets=2001:db8::/32
loc:{PLAIN}pw::::::allow_nets=local
rnet:{PLAIN}pw::::::allow_real_nets=10.9.0.0/16
bare:{PLAIN}pw::::::a4 b=%d c=%{session}
failing:{PLAIN}pw::::::fail=y z=1
master:{PLAIN}pw::::::proxy=y host=10.0.0.1 master=adm pass=mpw
delay:{PLAIN}pw::::::delay_until=1
delaybad:{PLAIN}pw::::::delay_until=abc
md5u:$1$wmyrgRuV$kImF6.9MAFQNHe23kq5vI/
des:JBOZ0DgmtucwE[13]
sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=
ssha:{SSHA}YixwsuWZrW9ornwPuDMSyNq4QgkwAIoV
hexed:{SHA256.HEX}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
sha512:{SHA512-CRYPT}$6$07/0v0FDuy3s584R$IPtuSLWqY4caywBso1lItzchVVIWqGPBpZX9KprTr81OLRQpUWkFD31INQ2jUaK.5pamu6fvFuakxxNJy2sjb/
prefixed:{PLAIN}pw::::::keep:protected=1 keep=2 gone=1 gone:remove
unkvar:{PLAIN}pw::::::a=%{nosuch}
"""
_USER_LOGINS: list[Login] = [
    ("u2", "pw2"), ("u2", "pw2", "rip=10.0.0.1"), ("u2", "pw2", "rip=127.0.0.7"), ("prox", "pw"), ("proxno", "pw"),
    ("proxm", "pw", "lip=127.0.0.1", "lport=143"), ("proxm", "pw", "lip=127.0.0.1", "lport=144"),
    ("proxm", "pw", "lip=10.0.0.1", "lport=143"), ("proxa", "pw", "lip=127.0.0.1", "lport=143"),
    ("proxm", "pw", "lip=10.0.0.1", "lport=143", "real_lip=127.0.0.1"),
    ("proxself", "pw", "lip=10.0.0.1", "lport=143"), ("nohost", "pw", "lip=127.0.0.1", "lport=143"),
    ("named", "pw"), ("hip", "pw"), ("badip", "pw"), ("baddns", "pw"), ("dis", "x"), ("dis", "y"), ("nop", "anything"),
    ("nopbad", "other"), ("nopw", "x"), ("empty", ""), ("empty", "x"), ("rn", "pw"), ("rnd", "pw"), ("rnn", "pw"),
    ("rne", "pw"), ("net", "pw", "rip=10.2.3.4"), ("net", "pw", "rip=192.168.1.2"), ("net", "pw"),
    ("net6", "pw", "rip=2001:db8::5"), ("net6", "pw", "rip=2001:db9::5"), ("loc", "pw"), ("loc", "pw", "rip=1.2.3.4"),
    ("rnet", "pw", "rip=1.1.1.1", "real_rip=10.9.1.1"), ("rnet", "pw", "rip=10.9.1.1"),
    ("bare", "pw", "session=SID"), ("failing", "pw"), ("master", "pw"), ("delay", "pw"), ("delaybad", "pw"),
    ("md5u", "test"), ("md5u", "x"), ("des", "08/15!test~4711"), ("sha", "secret"), ("ssha", "secret"),
    ("hexed", "secret"), ("sha512", "secret"), ("sha512", "bad"), ("prefixed", "pw"), ("unkvar", "pw"),
    ("prox", "pw", "forward_fields=a=b\x01tc=d"), ("prox", "bad", "forward_fields=a=b"), ("JOE", "x"),
    ("j o", "x"), ("jö", "x"), ("", "x"), ("u2", "pw\tx"), ("PROX", "pw"), ("anonymous", "x"),
]

_SQL = """driver = sqlite
connect = @DIR@/users.db
default_pass_scheme = PLAIN
password_query = SELECT userid AS user, password, note, proxy, host \\
  FROM users WHERE userid = '%u' # comment
"""
_DB = """CREATE TABLE users (userid TEXT, password TEXT, note TEXT, proxy TEXT, host TEXT);
INSERT INTO users VALUES ('joe', 'pw', 'n1', NULL, NULL),
 ('ann', '{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=', '', 'y', '10.0.0.1'),
 ('o''brien', 'pw', 'q', NULL, NULL), ('twice', 'a', 'b', NULL, NULL), ('twice', 'a', 'b', NULL, NULL),
 ('null', NULL, 'x', NULL, NULL);
"""
_SQL_LOGINS: list[Login] = [
    ("joe", "pw"), ("joe", "pw"), ("joe", "bad"), ("joe", "bad"), ("joe", "pw"), ("ann", "secret"), ("ann", "secret"),
    ("ann", "x"), ("o'brien", "pw"), ("o'brien", "x"), ("twice", "a"), ("null", "x"), ("nobody", "x"), ("nobody", "y"),
]

_MASTER_FILES = {"master": "admin:{PLAIN}mpw::::::fm=9\nren:{PLAIN}mpw::::::user=renamed\n",
                 "b": _B + "px:{PLAIN}u::::::proxy=y host=10.0.0.1\n"}
_MASTER_LOGINS: list[Login] = [
    ("joe*admin", "mpw"), ("joe*admin", "bad"), ("nobody*admin", "mpw"), ("nobody*admin", "bad"), ("joe*joe", "pwB"),
    ("*admin", "mpw"), ("a*b*admin", "mpw"), ("joe*", "x"), ("px*admin", "mpw"), ("ADMIN", "mpw"),
    ("admin", "mpw", "authzid=joe"), ("joe*admin", "mpw", "authzid=ann"), ("admin", "mpw", "authzid=admin"),
    ("joe*nomaster", "x"), ("j o*admin", "mpw"), ("JOE*ADMIN", "mpw"), ("joe*ren", "mpw"),
]

CASES: dict[str, tuple[Scenario, list[Login]]] = {
    "a-b": _chain(A, B),
    "deny-first": _chain(DENY, B),
    "deny-last": _chain(B, DENY),
    "continue": _chain(replace(A, result_success="continue"), B),
    "continue-ok": _chain(replace(A, result_success="continue-ok"), replace(B, result_failure="return-fail")),
    "continue-ok-missing": _chain(replace(A, result_success="continue-ok"), M),
    "continue-fail": _chain(replace(A, result_success="continue-fail"), B),
    "failure-return": _chain(replace(A, result_failure="return"), B),
    "failure-return-ok": _chain(replace(A, result_failure="return-ok")),
    "failure-continue-ok": _chain(replace(A, result_failure="continue-ok"), B),
    "success-return": _chain(replace(A, result_success="return")),
    "success-return-fail": _chain(replace(A, result_success="return-fail"), B),
    "fail-field": _chain(replace(A, override_fields="fail=y"), B),
    "skip": _chain(replace(A, result_success="continue"), replace(B, skip="authenticated"),
                   Passdb("static", "nopassword=y final=1", skip="unauthenticated")),
    "mechanisms-none": _chain(replace(A, mechanisms=("none",)), B),
    "mechanisms-login": _chain(replace(A, mechanisms=("login",))),
    "mechanisms-plain": _chain(replace(A, mechanisms=("plain", "login"))),
    "filter": _chain(replace(A, username_filter=("*@*",)), replace(B, username_filter=("!ann",))),
    "noauthenticate": _chain(NA, B),
    "noauthenticate-last": _chain(NA),
    "skip-unauthenticated-first": _chain(replace(A, skip="unauthenticated"), B),
    "defaults": _chain(replace(A, default_fields="fa:protected=def x=%u y=%{passdb:x}z",
                               override_fields="o=%{passdb:fa} x:remove"), B),
    "bad-override": _chain(replace(A, override_fields="x=%{nosuch}"), B),
    "bad-default": _chain(replace(A, default_fields="x=%z"), B),
    "internalfail-return": _chain(replace(A, default_fields="x=%z", result_internalfail="return-fail"), B),
    "pass": _chain(replace(A, pass_=True), B),
    "login-user": _chain(replace(A, override_fields="login_user=ann"), B),
    "nodelay-static": _chain(Passdb("static", "nopassword=y noauthenticate=y nodelay=y"), B),
    "static-nopassword": (Scenario([Passdb("static", "nopassword=y proxy=y host=127.0.0.1 port=143 x=%n y=%d")]),
                          [("joe", "x"), ("joe@d.e", ""), ("JOE@D.E", "y")]),
    "static-constant": (Scenario([Passdb("static", "nopassword=y proxy=y host=127.0.0.1 port=143")]),
                        [("joe", "x"), ("joe@d.e", ""), ("JOE@D.E", "y")]),
    "static-password": (Scenario([Passdb("static", "password={SHA1}5en6G6MezRroT3XKqkdPOmY/BfQ= a=1")]),
                        [("joe", "secret"), ("joe", "x")]),
    "static-nothing": (Scenario([Passdb("static", "a=1")]), [("joe", "x")]),
    "static-forward": (Scenario([Passdb("static", "nopassword=y host=%{passdb:forward_h:10.0.0.1} proxy=y")]),
                       [("joe", "x"), ("joe", "x", "forward_fields=h=10.9.9.9")]),
    "users": (Scenario([Passdb("passwd-file", "@DIR@/users")], {"auth_proxy_self": "127.0.0.2"}, {"users": _USERS}),
              _USER_LOGINS),
    "username-format": (Scenario([Passdb("passwd-file", "username_format=%n @DIR@/b")],
                                 {"auth_username_format": "", "auth_default_realm": "def.ex"}, _FILES),
                        [("joe", "pwB"), ("JOE", "pwB"), ("joe@x", "pwB")]),
    "translation": (Scenario([Passdb("static", "nopassword=y")], {"auth_username_translation": "%@!@/@-_"}),
                    [("jo-e/ex.com", "x"), ("a%b", "x"), ("a!b", "x")]),
    "format-n": (Scenario([Passdb("static", "nopassword=y")], {"auth_username_format": "%n"}),
                 [("joe@any", "x"), ("@any", "x"), ("Joe", "x")]),
    "any-char": (Scenario([Passdb("static", "nopassword=y")], {"auth_username_chars": ""}),
                 [("j o", "x"), ("jö", "x"), ("u1\tx", "x"), ("%u", "x"), ("a*b", "x")]),
    "missing-file": (Scenario([Passdb("passwd-file", "@DIR@/nosuch")]), [("joe", "x")]),
    "domain-file": (Scenario([Passdb("passwd-file", "@DIR@/dom-%d")], {}, {"dom-ex.com": "joe@ex.com:{PLAIN}x\n"}),
                    [("joe@ex.com", "x"), ("joe@ex.org", "x"), ("joe@../x", "x")]),
    "sql": (Scenario([Passdb("sql", "@DIR@/sql.conf")], {"auth_username_chars": ""}, {"sql.conf": _SQL}, _DB),
            _SQL_LOGINS),
    "sql-cached": (Scenario([Passdb("sql", "@DIR@/sql.conf", override_fields="o=%u")],
                            {"auth_cache_size": 1000000}, {"sql.conf": _SQL}, _DB), _SQL_LOGINS),
    "sql-cached-worker": (Scenario([Passdb("sql", "@DIR@/sql.conf")],
                                   {"auth_cache_size": 1000000, "auth_cache_verify_password_with_worker": True},
                                   {"sql.conf": _SQL}, _DB), _SQL_LOGINS),
    "sql-broken": (Scenario([Passdb("sql", "@DIR@/sql.conf")], {}, {"sql.conf": _SQL}, "CREATE TABLE other (x);"),
                   [("joe", "x")]),
    "master-pass": (Scenario([Passdb("passwd-file", "@DIR@/master", master=True, pass_=True), B],
                             {"auth_master_user_separator": "*"}, _MASTER_FILES), _MASTER_LOGINS),
    "master": (Scenario([Passdb("passwd-file", "@DIR@/master", master=True), B],
                        {"auth_master_user_separator": "*"}, _MASTER_FILES), _MASTER_LOGINS),
    "no-master": (Scenario([B], {"auth_master_user_separator": "*"}, _MASTER_FILES), _MASTER_LOGINS),
    "master-vars": (Scenario([Passdb("passwd-file", "@DIR@/master", master=True, pass_=True,
                                     override_fields="m=%u,%{login_user},%{master_user},%{auth_user},%{orig_user}"),
                              replace(B, override_fields="n=%u,%{login_user},%{master_user},%{auth_user},"
                                                         "%{orig_user}")],
                             {"auth_master_user_separator": "*"}, _MASTER_FILES), _MASTER_LOGINS),
    "variables": (Scenario([Passdb("static", "nopassword=y "
                                   "a=%u,%n,%d,%s,%l,%r,%m,%c,%a,%b,%k,%{session},%{real_rip},%{real_lip},"
                                   "%{real_lport},%{domain_first},%{domain_last},%{local_name},%{client_id} "
                                   "b=%Uu,%2.3u,%Mn,%Nu,%Hu,%{sha1:user},%{if;%u;eq;joe;yes;no},%05a "
                                   "c=%w,%{orig_user},%{auth_user}")]),
                  [("joe", "x"), ("Joe@A.b@C", "p", "lip=127.0.0.1", "rip=10.0.0.9", "lport=143", "rport=5555",
                                  "secured=tls", "session=SESS", "valid-client-cert", "local_name=sni",
                                  "client_id=(x)")]),
    "certificates": (Scenario([Passdb("static", "nopassword=y")],
                              {"auth_ssl_require_client_cert": True, "auth_ssl_username_from_cert": True}),
                     [("joe", "x"), ("joe", "x", "valid-client-cert"),
                      ("joe", "x", "valid-client-cert", "cert_username=ann")]),
}

#: Answers that are ours on purpose: (case, socket, user, password) -> our answer.
OURS: dict[tuple[str, str, str, str], str] = {
    # a wrong hostip is the database's mistake, so not a wrong password
    ("users", "login/login", "badip", "pw"): "FAIL\tuser=badip\tcode=temp_fail\thostip=zz",
    # from its second lookup on Dovecot calls a missing file a temporary failure
    ("missing-file", "login/login", "joe", "x"): "FAIL\tuser=joe",
    # a wrong password shows no fields of the user, wherever it was compared
    **{("sql-cached-worker", name, user, password): f"FAIL\tuser={user}"
       for name in ("auth-client", "login/login") for user, password in (("joe", "bad"), ("ann", "x"))},
}
#: Cases whose logins must not overlap.
SEQUENTIAL = frozenset(("sql-cached", "sql-cached-worker"))
