"""Fields with a meaning, names before the first database, and how passwords are stored."""
from __future__ import annotations

from tests.differential_auth.case import Ask, Case, login, pass_, passdb, user

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
ref:{PLAIN}x::::::nologin=y reason=Elsewhere host=10.0.0.1
nop:::::::nopassword=y
nopbad:{PLAIN}x::::::nopassword=y
nopempty:{PLAIN}::::::nopassword=y
nopw:::::::a=1
empty:{PLAIN}
crypt:
rn:{PLAIN}pw::::::user=newname
rnd:{PLAIN}pw::::::domain=ex.com
rnn:{PLAIN}pw::::::username=other x=%u
rnat:{PLAIN}pw::::::username=o@p.q
rne:{PLAIN}pw::::::user=
rndot:{PLAIN}pw::::::domain=
both:{PLAIN}pw::::::user=x@y username=z domain=w
net:{PLAIN}pw::::::allow_nets=10.0.0.0/8,192.168.1.1
net6:{PLAIN}pw::::::allow_nets=2001:db8::/32
netbad:{PLAIN}pw::::::allow_nets=nonsense,10.0.0.1
netnone:{PLAIN}pw::::::allow_nets=
loc:{PLAIN}pw::::::allow_nets=local
rnet:{PLAIN}pw::::::allow_real_nets=10.9.0.0/16
bare:{PLAIN}pw::::::a4 b=%d c=%{session}
failing:{PLAIN}pw::::::fail=y z=1
failno:{PLAIN}pw::::::fail=no z=1
master:{PLAIN}pw::::::proxy=y host=10.0.0.1 master=adm pass=mpw
emptymaster:{PLAIN}pw::::::proxy=y host=10.0.0.1 master= pass=
delay:{PLAIN}pw::::::delay_until=1
delayplus:{PLAIN}pw::::::delay_until=1+2
delaybad:{PLAIN}pw::::::delay_until=abc
delayfar:{PLAIN}pw::::::delay_until=99999999999
md5u:$1$wmyrgRuV$kImF6.9MAFQNHe23kq5vI/
des:JBOZ0DgmtucwE[13]
sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=
ssha:{SSHA}YixwsuWZrW9ornwPuDMSyNq4QgkwAIoV
hexed:{SHA256.HEX}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
sha512:{SHA512-CRYPT}$6$07/0v0FDuy3s584R$IPtuSLWqY4caywBso1lItzchVVIWqGPBpZX9KprTr81OLRQpUWkFD31INQ2jUaK.5pamu6fvFuakxxNJy2sjb/
prefixed:{PLAIN}pw::::::keep:protected=1 keep=2 gone=1 gone:remove
unkvar:{PLAIN}pw::::::a=%{nosuch}
colons:{PLAIN}pw::::::a=b:c:d e=f:g
import:{PLAIN}pw::::::passdb_import=x=1 y=2
udb:{PLAIN}pw::::::userdb_home=/h userdb_uid=65534 userdb_gid=nogroup userdb_mail=m
udbuser:{PLAIN}pw::::::userdb_user=other userdb_home=/h
udbbad:{PLAIN}pw::::::userdb_uid=nosuchuser userdb_home=/h
udbimport:{PLAIN}pw::::::userdb_userdb_import=home=/imported
udbprot:{PLAIN}pw::::::userdb_home=/1 userdb_home:protected=/2 userdb_mail=x userdb_mail:remove
reasoned:{PLAIN}pw::::::reason=Hello nodelay=y
"""
_LOGINS = [
    login("u2", "pw2"), login("u2", "pw2", "rip=10.0.0.1"), login("u2", "pw2", "rip=127.0.0.7"), login("prox", "pw"),
    login("proxno", "pw"), login("proxm", "pw", "lip=127.0.0.1", "lport=143"),
    login("proxm", "pw", "lip=127.0.0.1", "lport=144"), login("proxm", "pw", "lip=10.0.0.1", "lport=143"),
    login("proxa", "pw", "lip=127.0.0.1", "lport=143"),
    login("proxm", "pw", "lip=10.0.0.1", "lport=143", "real_lip=127.0.0.1"),
    login("proxself", "pw", "lip=10.0.0.1", "lport=143"), login("nohost", "pw", "lip=127.0.0.1", "lport=143"),
    login("named", "pw"), login("hip", "pw"), login("baddns", "pw"), login("dis", "x"), login("dis", "y"),
    login("ref", "x"), login("nop", "anything"), login("nopbad", "other"), login("nopempty", "x"), login("nopw", "x"),
    login("empty", ""), login("empty", "x"), login("crypt", ""), login("crypt", "x"), login("rn", "pw"),
    login("rnd", "pw"), login("rnd", "bad"), login("rnn", "pw"), login("rnat", "pw"), login("rne", "pw"),
    login("rndot", "pw"), login("both", "pw"), login("net", "pw", "rip=10.2.3.4"),
    login("net", "pw", "rip=192.168.1.2"), login("net", "pw"), login("net", "pw", "rip=nonsense"),
    login("net6", "pw", "rip=2001:db8::5"), login("net6", "pw", "rip=2001:db9::5"),
    login("net", "pw", "rip=::ffff:10.2.3.4"), login("netbad", "pw", "rip=10.0.0.1"),
    login("netbad", "pw", "rip=10.0.0.2"), login("netnone", "pw", "rip=10.0.0.2"), login("loc", "pw"),
    login("loc", "pw", "rip=1.2.3.4"), login("rnet", "pw", "rip=1.1.1.1", "real_rip=10.9.1.1"),
    login("rnet", "pw", "rip=10.9.1.1"), login("rnet", "pw", "rip=10.9.1.1", "real_rip=1.1.1.1"),
    login("bare", "pw", "session=SID"), login("failing", "pw"), login("failno", "pw"), login("master", "pw"),
    login("emptymaster", "pw"), login("delay", "pw"), login("delayplus", "pw"), login("delaybad", "pw"),
    login("delayfar", "pw"), login("md5u", "test"), login("md5u", "x"), login("des", "08/15!test~4711"),
    login("sha", "secret"), login("ssha", "secret"), login("hexed", "secret"), login("sha512", "secret"),
    login("sha512", "bad"), login("prefixed", "pw"), login("unkvar", "pw"), login("colons", "pw"),
    login("import", "pw"), login("udb", "pw"), login("udbuser", "pw"), login("udbbad", "pw"), login("udbimport", "pw"),
    login("udbprot", "pw"), login("reasoned", "pw"), login("reasoned", "bad"),
    login("prox", "pw", "forward_fields=a=b\x01tc=d"), login("prox", "bad", "forward_fields=a=b"), login("JOE", "x"),
    login("prox", "pw", "forward_fields=bare\x01tx="), login("prox", "pw", "unknown=1", "debug"),
    login("j o", "x"), login("jö", "x"), login("", "x"), login("u2", "pw\tx"), login("PROX", "pw"),
    login("anonymous", "x"), login("prox", "pw", mech="LOGIN"), login("prox", "x", mech="LOGIN"),
    login("", "x", mech="LOGIN"), login("a b", "x", mech="LOGIN"),
]
_NAMES = [line.partition(":")[0] for line in _USERS.splitlines()]
_LOOKUPS = [request(name, "lip=127.0.0.1", "lport=143", "rip=10.2.3.4") for name in _NAMES
            for request in (pass_, user) if name not in ("badip", "delay", "delayplus")]
_OWN = "static"


def _names(name: str, settings: str, *logins: tuple[str, ...]) -> Case:
    return Case(name, settings + "\n" + passdb(_OWN, "nopassword=y"),
                [*(login(user, "x", *params) for user, *params in logins), *(pass_(user) for user, *_ in logins
                                                                             if "\t" not in user and user)])


#: `userdb_x:remove` from a passdb removes.
_REMOVED = {"REQUEST: AUTH PLAIN /udbprot/pw": "USER\tudbprot\thome=/1\tauth_mech=PLAIN",
            "USER udbprot lip=127.0.0.1 lport=143 rip=10.2.3.4": "USER\tudbprot\thome=/1"}


def _each(name: str, asks: list[Ask], size: int) -> list[Case]:
    """The long list in parts, which run at the same time."""
    cases = []
    for at in range(0, len(asks), size):
        part = asks[at:at + size]
        ours = {key: line for key, line in _REMOVED.items() if any(key.endswith(ask.label) for ask in part)}
        cases.append(Case(f"{name}-{at // size}", passdb("passwd-file", "@case@/users"), part, {"users": _USERS},
                     ours=ours))
    return cases


CASES = [
    *_each("users", _LOGINS, 8),
    *_each("lookups", _LOOKUPS, 8),
    Case("static-nopassword", passdb("static", "nopassword=y proxy=y host=127.0.0.1 port=143 x=%n y=%d"),
         [login("joe", "x"), login("joe@d.e", ""), login("JOE@D.E", "y"), pass_("joe@d.e")]),
    Case("static-constant", passdb("static", "nopassword=y proxy=y host=127.0.0.1 port=143"),
         [login("joe", "x"), login("joe@d.e", ""), login("JOE@D.E", "y"), pass_("JOE"), user("joe")]),
    Case("static-password", passdb("static", "password={SHA1}5en6G6MezRroT3XKqkdPOmY/BfQ= a=1"),
         [login("joe", "secret"), login("joe", "x"), pass_("joe"), user("joe")]),
    Case("static-nothing", passdb("static", "a=1"), [login("joe", "x"), pass_("joe"), user("joe")]),
    Case("static-forward", passdb("static", "nopassword=y host=%{passdb:forward_h:10.0.0.1} proxy=y"),
         [login("joe", "x"), login("joe", "x", "forward_fields=h=10.9.9.9"), pass_("joe",
                "forward_fields=h=10.9.9.8")]),
    Case("username-format-of-file", "auth_username_format =\nauth_default_realm = def.ex\n"
         + passdb("passwd-file", "username_format=%n @case@/b"),
         [login("joe", "pwB"), login("JOE", "pwB"), login("joe@x", "pwB"), pass_("joe@y")],
         {"b": "joe:{PLAIN}pwB::::::fb=2\n"}),
    _names("translation", "auth_username_translation = %@!@/@-_", ("jo-e/ex.com",), ("a%b",), ("a!b",), ("a@b/c",)),
    _names("format-n", "auth_username_format = %n", ("joe@any",), ("@any",), ("Joe",)),
    _names("format-upper", "auth_username_format = %Uu", ("joe@any",)),
    _names("format-none", "auth_username_format =", ("JOE",), ("joe",)),
    Case("format-broken", "auth_username_format = %{nosuch}\n" + passdb(_OWN, "nopassword=y"),
         [login("joe", "x"), pass_("joe")],
         ours={"REQUEST: AUTH PLAIN /joe/x": "", "AUTH PLAIN /joe/x": "FAIL\tuser=joe\toriginal_user=joe",
               "PASS joe": "NOTFOUND"}, why="nobody should get the mail of UNSUPPORTED_VARIABLE_nosuch"),
    _names("format-domain", "auth_username_format = %n.%d", ("joe@any",), ("joe",)),
    _names("realm", "auth_default_realm = ex.org", ("joe",), ("joe@x",), ("joe@",)),
    _names("chars", "auth_username_chars = abcjoe", ("joe",), ("job",), ("jod",), ("JOE",)),
    _names("any-char", "auth_username_chars =", ("j o",), ("jö",), ("u1\tx",), ("%u",), ("a*b",), ("é\udcff",)),
    Case("domain-file", passdb("passwd-file", "@case@/dom-%d"),
         [login("joe@ex.com", "x"), login("joe@ex.org", "x"), login("joe@../x", "x")],
         {"dom-ex.com": "joe@ex.com:{PLAIN}x\n"}),
    Case("bad-hostip", passdb("static", "nopassword=y proxy=y host=a.example hostip=zz"), [login("badip", "pw")],
         ours={"login/login: AUTH PLAIN /badip/pw": "FAIL\tuser=badip\tcode=temp_fail\thostip=zz"},
         why="a wrong hostip is the database's mistake"),
]

_CERTIFIED = [login("joe", "x"), login("joe", "x", "valid-client-cert"), login("joe", "x", "cert_username=ann"),
              login("joe", "x", "valid-client-cert", "cert_username=ann"),
              login("joe", "x", "valid-client-cert", "cert_username=ANN@B", "final-resp-ok")]
#: For other groups: these settings are the same in all protocols.
CERTIFICATES = [Case("certified", passdb("static", "nopassword=y u=%u c=%k o=%{orig_user}"), _CERTIFIED)]
