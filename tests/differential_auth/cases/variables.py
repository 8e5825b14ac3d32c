"""%variables in every place of a passdb, in every spelling."""
from __future__ import annotations

from dataclasses import replace

from tests.differential_auth.case import Case, login, pass_, passdb, user, userdb

_WHO = login("Joe@A.b@C", "p", "lip=127.0.0.1", "rip=10.0.0.9", "lport=143", "rport=5555", "secured=tls",
             "session=SESS", "valid-client-cert", "local_name=sni", "client_id=(x)", "real_lip=10.1.1.1",
             "real_rip=10.1.1.2", "real_lport=1", "real_rport=2", "forward_fields=f=g")
_ASKS = [login("joe", "x"), _WHO, login("%u%{user}@%d", "%w"), login("o'br\"ien\\x", "x"), pass_("joe@ex.com")]
_HEAD = "auth_username_chars =\n"


def _case(name: str, *expressions: str, head: str = _HEAD) -> Case:
    args = " ".join(f"{letter}={text}" for letter, text in zip("abcdefghijklmnopqrstuvwxyz", expressions, strict=False))
    return Case(name, head + passdb("static", f"nopassword=y {args}"), _ASKS)


CASES = [
    _case("short", "%u", "%n", "%d", "%s", "%h", "%l", "%r", "%w", "%m", "%c", "%a", "%b", "%k", "%%"),
    _case("long", "%{user}", "%{username}", "%{domain}", "%{service}", "%{home}", "%{lip}", "%{rip}", "%{password}",
          "%{mech}", "%{secured}", "%{lport}", "%{rport}", "%{cert}", "%{session}", "%{local_name}", "%{client_id}"),
    _case("aliases", "%{local_ip}", "%{remote_ip}", "%{mechanism}", "%{local_port}", "%{remote_port}",
          "%{real_local_ip}", "%{real_remote_ip}", "%{real_local_port}", "%{real_remote_port}", "%{original_user}",
          "%{original_username}", "%{original_domain}"),
    _case("real", "%{real_lip}", "%{real_rip}", "%{real_lport}", "%{real_rport}", "%{domain_first}", "%{domain_last}",
          "%{orig_user}", "%{orig_username}", "%{orig_domain}", "%{auth_user}", "%{auth_username}", "%{auth_domain}",
          "%{login_user}", "%{login_username}", "%{login_domain}", "%{master_user}", "%{session_pid}"),
    _case("case", "%Lu", "%Uu", "%L{user}", "%U{username}", "%1.2{domain}", "%LUn", "%UEu", "%Eu"),
    _case("modifiers", "%Ru", "%Mn", "%LMn", "%Dd", "%Xa", "%Xu", "%Tu", "%RUn"),
    _case("hashes", "%Hu", "%3Hu", "%2.100Hu", "%Nu", "%16Nu", "%2.100Nu", "%4.16Hn", "%8.65536Nn", "%LHu", "%0.10Hu"),
    _case("ranges", "%2u", "%1u", "%0u", "%2.3u", "%-3.2u", "%3.0u", "%-1u", "%1.-1n", "%.3u", "%05a", "%2.05n",
          "%-2.1u", "%10.2u", "%-20.3u", "%0.-2u"),
    _case("functions", "%{sha1:user}", "%{md5:user}", "%{md4:user}", "%{sha256:user}", "%{sha384:user}",
          "%{sha512:user}",
          "%{sha3-256:user}", "%{sha3-512:user}"),
    _case("function-options", "%{md5;salt=abc:user}", "%{sha256;rounds=2:user}", "%{sha1;truncate=16:user}",
          "%{sha1;format=base64:user}", "%{sha1;truncate=12:user}", "%{sha256;rounds=3,salt=x:user}",
          "%{sha1;format=base64,truncate=24:user}"),
    _case("pkcs5", "%{pkcs5;rounds=10,salt=xx:user}"),
    _case("function-modified", "%L{sha1:user}", "%2.4{sha1:user}", "%U{md5:user}"),
    replace(_case("function-short", "%{sha1:u}"), asks=_ASKS[::4]),
    _case("function-field", "%{sha1:username}", "%{md5:passdb:forward_f}"),
    _case("if", "%{if;%u;eq;joe;yes;no}", "%{if;%u;ne;joe;yes;no}", "%{if;%a;==;143;yes;no}", "%{if;%a;>;100;yes;no}",
          "%{if;%u;*;j*;yes;no}", "%{if;%u;!*;j*;yes;no}", "%{if;%u;~;^j.e$;yes;no}", "%{if;%u;!~;^j.e$;yes;no}",
          "%{if;%u;lt;k;yes;no}", "%{if;%u;gt;k;yes;no}", "%{if;%a;<=;143;yes;no}", "%{if;%a;>=;144;yes;no}",
          "%{if;%a;<;1;yes;no}", "%{if;%a;!=;1;yes;no}", "%{if;%u;le;joe;yes;no}", "%{if;%u;ge;joe;yes;no}"),
    _case("if-nested", "%{if;%u;eq;joe;%{if;%n;eq;joe;both;one};none}", "%{if;%u;eq;joe;only}",
          "%{if;a\\;b;eq;a\\;b;y;n}",
          "%{if;%{sha1:user};*;a*;y;n}", "%{if;%u;eq;joe;%r;%n}", "%{if;%{passdb:forward_f};eq;g;f;-}"),
    _case("passdb", "1", "%{passdb:a}", "%{passdb:nosuch}", "%{passdb:nosuch:def}", "%{passdb:forward_f:none}",
          "%{passdb:forward_f:}", "%{userdb:home:nohome}", "%U{passdb:forward_f}"),
    _case("environment", "%{env:NO_SUCH_VARIABLE}", "%{hostname}"),
    *(replace(_case(f"unknown-{number}", text), asks=_ASKS[::4]) for number, text in enumerate((
        "%z", "%{nosuch}", "%{sha1}", "%{user", "%{if;a;b}", "%{if;x;==;1;y;n}", "%{if;a;foo;b;c;d}",
            "%{sha1;rounds=x:user}",
        "%{nosuch:user}", "%{}", "%{:user}"))),
    _case("at-the-end", "%L", "a%"),
    Case("file-fields", _HEAD + passdb("passwd-file", "@case@/users"), _ASKS[:2],
         {"users": "joe:{PLAIN}x::::::a=%u b=%{if;%u;eq;joe;yes;no} c=100%% d=%{passdb:a}\n"}),
    Case("default-and-override", _HEAD + passdb("static", "nopassword=y s=%{passdb:d}",
                                                default_fields="d=%n u=%{session}",
                                                    override_fields="o=%{passdb:s}%{passdb:d}"),
         _ASKS),
    Case("userdb", _HEAD + passdb("static", "nopassword=y p=%n") + userdb(
        "static", "uid=1 gid=1 allow_all_users=yes home=/h/%Ld/%n a=%{passdb:p:none} b=%{userdb:home} m=%{mech} "
                  "x=%{auth_user},%{orig_user},%{login_user},%{session},%r",
        override_fields="o=%{userdb:home}%{passdb:p}"), [*_ASKS, user("joe@ex.com", "rip=10.0.0.1"), user("joe")]),
]
