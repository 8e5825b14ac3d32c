"""One client's way from the banner to the relay: the socket-free core.

Driven by three peers: the client (through its protocol's frontend machine), the auth server, and the backend (through
the backend machine).  What it asks of the world goes through `ports`.  No wire text stands here.

    GREET ──auth is known──> COMMAND ──login──> AUTH ──OK+proxy──> BACKEND ──backend OK──> RELAY
                               ^  ^               │ │                │   ^
                               │  └──── refused ──┘ └─CONT─> SASL    │   └─ 1 s ─ RETRY <─┐
                               └───────────── failed ────────────────┴────────────────────┘
    any state ──client gone, time over, limits──> CLOSED
"""
from __future__ import annotations

import binascii
import re
import time
from collections.abc import Callable

from mailproxy import sasl
from mailproxy.ipc.authwire import escape
from mailproxy.login import logline, target
from mailproxy.login.logline import why_gone
from mailproxy.login.ports import Io, Pending
from mailproxy.login.setup import Setup
from mailproxy.net.addr import normal, packed
from mailproxy.proto import events, spec
from mailproxy.proto.spec import FAILED, READY, REFUSED, START_TLS, Frontend

GREET, COMMAND, AUTH, SASL, BACKEND, RETRY, HANDSHAKE, RELAY, CLOSED = range(9)

#: Seconds from accept to the end of the login, whatever happens meanwhile.
LOGIN_TIMEOUT = 180.0
#: Seconds after which a client is told that the auth server is slow.
NOTICE_BEFORE_READY = 10.0
NOTICE_PENDING = 30.0
#: Between two attempts at a backend, and the least that must be left of the budget for another.
RETRY_PAUSE = 1.0
RETRY_LEAST = 1.1
#: Hops that a chain of proxies may have.
TTL = 5
TTL_MAX = 0xFFFFFFFF
SESSION_ID_MAX = 64
#: Characters of a mechanism's name, whatever the client says it is.
MECHANISM_MAX = 64
#: Bytes that a client may send before the auth server is known.
EARLY_MAX = 1024
#: Variables that a trusted proxy may forward, and their size: what fits an auth request with room for the rest.
FORWARD_MAX = 32
FORWARD_SIZE = 4096

_PREFIXES = {spec.CONNECT: "", spec.REMOTE: "Aborting due to remote server: ",
             spec.PROTOCOL: "Remote server sent invalid input: ",
             spec.INTERNAL_ERROR: "Aborting due to internal error: ",
             spec.REMOTE_CONFIG: "Aborting due to remote server: "}
_RETRIED = (spec.CONNECT, spec.REMOTE, spec.PROTOCOL)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*=*\Z")

#: code= of a FAIL -> (what the frontend says, what the log says of the session)
_CODES = {
    "": (spec.AUTH_FAILED, logline.FAILED),
    "temp_fail": (spec.TEMP_FAIL, logline.TEMP_FAILED),
    "authz_fail": (spec.AUTHZ_FAILED, logline.AUTHZ_FAILED),
    "user_disabled": (spec.USER_DISABLED, logline.DISABLED),
    "pass_expired": (spec.PASS_EXPIRED, logline.EXPIRED),
    "invalid_base64": (spec.INVALID_BASE64, logline.BAD_BASE64),
}


class Session:
    """Addresses are what the client's connection has, until a trusted proxy forwards others."""

    __slots__ = ("_backend", "_first_try", "_frontend", "_id", "_login_timer", "_notice", "_reconnects",
                 "_request", "_source", "_target", "_timer", "_unfinished", "attempts", "auth_started", "auth_user",
                 "cert_name", "created", "fields", "forward", "io", "lip", "listener", "local_name", "lport", "method",
                 "orig_user", "outcome", "real_lip", "real_lport", "real_rip", "real_rport", "rip", "rport", "secured",
                 "shared", "state", "successes", "tls", "tls_end", "tls_error", "ttl", "user")

    shared: Setup
    io: Io
    listener: str
    rip: str
    lip: str
    rport: int
    lport: int
    user: str
    orig_user: str
    auth_user: str
    method: str
    local_name: str
    real_rip: str
    real_lip: str
    real_rport: int
    real_lport: int

    def __init__(self, shared: Setup, io: Io, frontend: Frontend, remote: tuple[str, int], local: tuple[str, int],
                 listener: str = "") -> None:
        self.shared = shared
        self.io = io
        self._frontend = frontend
        self.rip, self.rport = self.real_rip, self.real_rport = remote
        self.lip, self.lport = self.real_lip, self.real_lport = local
        self.listener = listener
        self.state = GREET
        self.created = self.auth_started = io.now()
        self.tls = False
        self.tls_error = self.tls_end = ""
        self.cert_name: str | None = None       # the user in the client's valid certificate; None without one
        self.secured = remote[0] == local[0] or remote[0] in shared.policy.trusted
        self.local_name = ""
        self.user = self.orig_user = self.auth_user = self.method = ""
        self.fields: dict[str, str] = {}
        self.forward: dict[str, str] = {}
        self.ttl = TTL
        self.attempts = self.successes = 0
        self.outcome = logline.NOTHING
        self._unfinished = ""
        self._id = ""
        self._request = 0
        self._target: target.Target | None = None
        self._backend: spec.Backend | None = None
        self._source: str | None = None
        self._first_try = 0.0
        self._reconnects = 0
        self._timer: Pending | None = None
        self._notice: Pending | None = None
        self._login_timer = io.later(LOGIN_TIMEOUT, self._login_timeout)

    # --- what logs show --------------------------------------------------------------------------------------------

    def session_id(self) -> str:
        """Made when first needed: 48 bits of the time in microseconds, the client's port and address, base64."""
        if not self._id:
            stamp = time.time_ns() // 1000 & 0xFFFFFFFFFFFF
            raw = stamp.to_bytes(6, "little") + self.rport.to_bytes(2, "little") + packed(self.rip)
            self._id = binascii.b2a_base64(raw, newline=False).decode().rstrip("=")
        return self._id

    def security(self) -> str:
        """%c"""
        if self.state == HANDSHAKE or self.tls_error:
            return f"TLS handshaking: {self.tls_error}" if self.tls_error else "TLS handshaking"
        if self.tls:
            return f"TLS{self.tls_end}"
        return "secured" if self.secured else ""

    def awaiting_auth(self) -> bool:
        return self.state == GREET

    def unfinished(self) -> str:
        """What a first attempt is in the middle of."""
        return self._unfinished

    def log(self, write: Callable[[str], None], text: str) -> None:
        form = self.shared.format
        write(form.line(text, form.elements(self)))

    # --- the client ------------------------------------------------------------------------------------------------

    def begin(self, *, tls: bool = False) -> None:
        """The connection stands (`tls`: with implicit TLS): greet, now or when the auth server is known."""
        if tls:
            self.tls = self.secured = True
            # the mechanisms may have become known during the handshake
            self._frontend = self.shared.frontend(self.real_rip, self.real_lip)
        self.state = GREET
        if self.shared.auth.ready():
            self._greet()
        else:
            self._notice = self.io.later(NOTICE_BEFORE_READY, self._say_waiting)
            self.io.resume_reading()

    def auth_ready(self) -> None:
        """The auth server's mechanisms are known now, and with them what a frontend has to offer."""
        if self.state == GREET:
            early = self._frontend.leftover()
            self._frontend = self.shared.frontend(self.real_rip, self.real_lip)
            self._frontend.feed(early)
            self._stop_notice()
            self._greet()

    def _greet(self) -> None:
        self.state = COMMAND
        self._frontend.greet(self.tls, self.secured)
        self._go_on()

    def handshaking(self) -> None:
        self.state = HANDSHAKE

    def tls_ready(self) -> None:
        """The handshake that STARTTLS asked for is done."""
        self.tls = self.secured = True
        self.state = COMMAND
        self._frontend.secure()
        self._frontend.resume()
        self.io.resume_reading()

    def client_data(self, data: bytes) -> bool:
        """Bytes of the client; False: do not read on for now."""
        self._frontend.feed(data)
        if self.state == GREET:
            self._say_waiting()
            return self.state == GREET and len(self._frontend.leftover()) < EARLY_MAX
        return self.work()

    def work(self) -> bool:
        """Act on what the client has sent, until more is needed or a login is in progress."""
        frontend = self._frontend
        while self.state in (COMMAND, SASL):
            event = frontend.next_event()
            if event is None:
                break
            _ON_EVENT[type(event)](self, event)
        self._flush()
        return self.state in (COMMAND, SASL)

    def _flush(self) -> None:
        out = self._frontend.take_output()
        if out:
            self.io.send(out)

    def client_gone(self, reason: str = "") -> None:
        """End of the client's stream, or its failure."""
        if self.state in (RELAY, CLOSED):
            return
        self.close("Connection closed" + (f": {reason}" if reason else ""))

    def close(self, reason: str, farewell: str = "", *, internal: bool = False) -> None:
        """Say goodbye, log why, and let go of everything."""
        if self.state in (RELAY, CLOSED):
            return
        if farewell:
            self._frontend.bye(farewell, internal=internal)
        extra = why_gone(self, self.io.now())
        self.log(self.shared.log.info, f"Disconnected: {reason}" + (f" {extra}" if extra else ""))
        self.state = CLOSED             # first: a farewell that does not fit must not end the session again
        self._flush()
        self._release()
        self.io.close()

    def _release(self) -> None:
        self._login_timer.cancel()
        self._stop_notice()
        if self._timer is not None:
            self._timer.cancel()
        if self._request:
            self.shared.auth.cancel(self._request)
            self._request = 0
        if self._target is not None and self._backend is not None:
            self._leave_backend(failed=False)

    # --- events of the frontend ------------------------------------------------------------------------------------

    def _on_quit(self, event: events.Quit) -> None:
        if event.mechanism:
            self.method = _mechanism_name(event.mechanism)
        self.close(event.reason)

    def _on_starttls(self, event: events.StartTls) -> None:
        self._flush()
        if self.state == CLOSED:        # the client does not read
            return
        self.state = HANDSHAKE
        if self.shared.contexts.server is None:
            self.tls_failed()
            return
        if self._frontend.leftover():
            # clear text pipelined behind the command is no handshake, and must never become a command
            self.tls_error = "SSL_accept() failed: plaintext instead of a handshake"
            self.client_gone(self.tls_error)
            return
        self.io.start_tls()

    def tls_failed(self) -> None:
        self.close("TLS initialization failed.", "TLS initialization failed.", internal=True)

    def _on_identify(self, event: events.Identify) -> None:
        if event.first and event.forwarded and self.real_rip in self.shared.policy.trusted:
            self._adopt(event.forwarded)
        wanted = self.shared.policy.id_log
        if wanted:
            shown = [f"{key}={'NIL' if value is None else value}" for key, value in event.said
                     if wanted == ("*",) or key.lower() in wanted]
            if shown:
                self.log(self.shared.log.info, "ID sent: " + ", ".join(shown))

    def _adopt(self, forwarded: dict[str, str]) -> None:
        """Take over what a trusted proxy says about its client; an invalid value is as good as none."""
        session = forwarded.get("session", "")
        if 0 < len(session) <= SESSION_ID_MAX:
            self._id = session
        self.rip = normal(forwarded.get("rip", "")) or self.rip
        self.lip = normal(forwarded.get("lip", "")) or self.lip
        self.rport = _number(forwarded.get("rport"), 65535, self.rport) or self.rport
        self.lport = _number(forwarded.get("lport"), 65535, self.lport) or self.lport
        self.ttl = _number(forwarded.get("ttl"), TTL_MAX, self.ttl)
        room = FORWARD_SIZE
        for key, value in forwarded.items():
            room -= len(key) + len(value)
            if key.startswith("forward_") and len(self.forward) < FORWARD_MAX and room > 0:
                self.forward[key[8:]] = value

    def _on_login(self, event: events.PlainLogin) -> None:
        self._count_attempt("")
        if not self.secured and self.shared.policy.plaintext_needs_tls:
            self._log_refusal("Login failed: Plaintext authentication disabled")
            self.user = event.user.decode("utf-8", "surrogateescape")
            self.outcome = logline.FAILED
            self._frontend.refuse(spec.TLS_REQUIRED if self.shared.policy.ssl == "required"
                                  else spec.PLAINTEXT_DISABLED)
            return
        self.method = "PLAIN"
        self._ask("PLAIN", binascii.b2a_base64(b"\0%b\0%b" % (event.user, event.password), newline=False))

    def _on_sasl(self, event: events.SaslStart) -> None:
        name = _mechanism_name(event.mechanism)
        self._count_attempt(name)
        policy = self.shared.policy
        if not self.secured and policy.ssl == "required":
            self._log_refusal("Login failed: SSL required for authentication")
            self.outcome = logline.FAILED
            self._frontend.refuse(spec.TLS_REQUIRED)
            return
        flags = self.shared.auth.mechanism(name)
        if flags is None or "private" in flags:
            self._refuse_mechanism(spec.MECHANISM_UNKNOWN, logline.BAD_MECHANISM,
                                   "Unsupported authentication mechanism.")
        elif not self.secured and policy.plaintext_needs_tls and "plaintext" in flags:
            self._refuse_mechanism(spec.PLAINTEXT_DISABLED, logline.INSECURE, "Plaintext authentication disabled.")
        elif event.initial is not None and _BASE64.match(event.initial) is None:
            self.outcome = logline.BAD_BASE64
            self._frontend.refuse(spec.INVALID_BASE64)
        else:
            self._ask(name, event.initial)

    def _refuse_mechanism(self, why: int, outcome: int, text: str) -> None:
        self._log_refusal(f"Authenticate {self.method} failed: {text}")
        self.outcome = outcome
        self._frontend.refuse(why)

    def _log_refusal(self, text: str) -> None:
        if self.shared.policy.auth_verbose:
            self.log(self.shared.log.info, text)

    def _on_response(self, event: events.SaslResponse) -> None:
        if _BASE64.match(event.data) is None:
            self.shared.auth.cancel(self._request)
            self._request = 0
            self.state = COMMAND
            self._log_refusal(f"Authenticate {self.method} failed: Invalid base64 in response")
            self._frontend.refuse(spec.BAD_CONTINUATION)
            return
        self.state = AUTH
        self._unfinished = "disconnected while authenticating"
        self.shared.auth.answer(self._request, event.data)

    def _on_abort(self, event: events.SaslAbort) -> None:
        self.shared.auth.cancel(self._request)
        self._request = 0
        self.outcome = logline.ABORTED
        self.state = COMMAND
        self._frontend.refuse(spec.ABORTED)

    # --- the auth server -------------------------------------------------------------------------------------------

    def _count_attempt(self, method: str) -> None:
        if not self.attempts:
            self.auth_started = self.io.now()
        self.attempts += 1
        self.method = method
        self._unfinished = ""

    def _ask(self, mechanism: str, initial: bytes | None) -> None:
        self.state = AUTH
        self._unfinished = "disconnected while authenticating"
        self._request = self.shared.auth.ask(self, mechanism, self.parameters(), initial)
        if not self._request:
            # The connection to auth is down: it is asked again as soon as it is back.
            self._say_waiting()

    def parameters(self) -> str:
        """The fields of an auth request between the mechanism and the initial response."""
        # in the order of Dovecot's own client library; final-resp-ok is not for IMAP
        text = f"service={self.shared.protocol}"
        if self.tls:
            text += "\tsecured=tls"
            if self.shared.policy.wants_cert:
                text += self._cert_parameters()
        elif self.secured:
            text += "\tsecured"
        if self.real_rip in self.shared.policy.trusted:
            text += "\tno-penalty"
        text += (f"\tsession={escape(self.session_id())}\tlip={self.lip}\trip={self.rip}"
                 f"\tlport={self.lport}\trport={self.rport}")
        if self.real_rip != self.rip:
            text += f"\treal_rip={self.real_rip}"
        if self.real_lip != self.lip:
            text += f"\treal_lip={self.real_lip}"
        if self.real_lport != self.lport:
            text += f"\treal_lport={self.real_lport}"
        if self.real_rport != self.rport:
            text += f"\treal_rport={self.real_rport}"
        if self.local_name:
            text += f"\tlocal_name={escape(self.local_name)}"
        if self._frontend.client_id:
            text += f"\tclient_id={escape(self._frontend.client_id.decode('utf-8', 'surrogateescape').strip())}"
        if self.forward:
            nested = "\t".join(escape(f"{key}={value}") for key, value in self.forward.items())
            text += f"\tforward_fields={escape(nested)}"
        return text

    def _cert_parameters(self) -> str:
        name = self.cert_name
        if name is None:
            return ""
        return "\tvalid-client-cert" + (f"\tcert_username={escape(name)}" if name else "")

    def auth_continue(self, challenge: bytes) -> None:
        self.state = SASL
        self._unfinished = "client didn't finish SASL auth"
        self._frontend.challenge(challenge)
        self._go_on()

    def auth_ok(self, fields: dict[str, str]) -> None:
        """The user is who he says; the fields tell what to do with him."""
        self._request = 0
        self._unfinished = ""
        self._learn(fields)
        self.successes += 1
        self.fields = fields
        self.outcome = logline.NOTHING
        if "proxy" in fields:
            self._start_proxying(fields)
        elif "nologin" in fields:
            self._disabled(fields)
        else:
            self._no_local_login()

    def _learn(self, fields: dict[str, str]) -> None:
        """Names for the log; what remains are fields."""
        self.user = fields.pop("user", self.user)
        self.orig_user = fields.pop("original_user", "")
        self.auth_user = fields.pop("auth_user", "")

    def _disabled(self, fields: dict[str, str]) -> None:
        reason = fields.get("reason", "")
        host = fields.get("host")
        if host:
            self._frontend.refer(spec.Referral(fields.get("destuser") or self.user, self.method, host,
                                               fields.get("port", "")), reason)
        else:
            self._frontend.refuse(spec.LOGIN_DISABLED, reason)
        self._back_to_commands()

    def _no_local_login(self) -> None:
        self.log(self.shared.log.error, "Login is not proxied, and there is no local mail service")
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._frontend.refuse(spec.INTERNAL, "Internal login failure. Refer to server log for more information. "
                                             f"[{stamp}]")
        self._back_to_commands()

    def auth_failed(self, fields: dict[str, str]) -> None:
        self._request = 0
        self._unfinished = ""
        self._learn(fields)
        code = fields.get("code", "")
        if not code:                    # servers before 2.3 say it in bare words
            code = next((full for word, full in _OLD_CODES.items() if word in fields), "")
        why, self.outcome = _CODES.get(code, _CODES[""])
        text = fields.get("reason", "")
        if why == spec.TEMP_FAIL:
            text = _temporary(self.shared.machine)
        self._frontend.refuse(why, text)
        self._back_to_commands()

    def auth_lost(self) -> None:
        """The auth server died with our request: temporary, and never `wrong password`."""
        self._request = 0
        self._unfinished = ""
        self.outcome = logline.LOST_AUTH
        self._frontend.refuse(spec.TEMP_FAIL, _temporary(self.shared.machine))
        self._back_to_commands()

    def _back_to_commands(self) -> None:
        self.state = COMMAND
        self._stop_notice()
        self._frontend.resume()
        self._go_on()

    def _go_on(self) -> None:
        """Out with the reply, and on with what the client has sent meanwhile."""
        if self.work():
            self.io.resume_reading()

    # --- the backend -----------------------------------------------------------------------------------------------

    def _start_proxying(self, fields: dict[str, str]) -> None:
        found = target.choose(fields, self.user, None, self.shared.dialect.ports, (self.lip, self.lport))
        if isinstance(found, target.Refused):
            self.log(self.shared.log.error, f"proxy({self.user}): {found.reason}")
            self._frontend.refuse(spec.PROXY_UNAVAILABLE)
            self._back_to_commands()
            return
        fields.pop("pass", None)
        for warning in found.warnings:
            self.log(self.shared.log.error, warning)
        self._target = found
        self._first_try = self.io.now()
        self._reconnects = 0
        self._source = found.source or self.shared.sources.take()
        self._unfinished = "disconnected while finishing login"
        self._attempt()

    def destination(self) -> target.Target:
        """Where the current attempt goes."""
        assert self._target is not None
        return self._target

    def label(self) -> str:
        assert self._target is not None
        return f"proxy({self.user},{self._target.ip}:{self._target.port}): "

    def _attempt(self) -> None:
        self._timer = None
        found = self._target
        assert found is not None
        if self.ttl <= 1:
            self._fail(spec.REMOTE_CONFIG, "TTL reached zero - proxies appear to be looping?")
            return
        now = self.io.now()
        known = self.shared.backends.get(found.ip, found.port, now)
        if known.is_down(found.host_down_after):
            self._fail(spec.CONNECT, "Host is down", retry=False)
            return
        self.state = BACKEND
        self._backend = self.shared.dialect.backend(self._order(found))
        known.connecting += 1
        problem = self.io.connect(found, self._source)
        if problem:
            self._backend_lost(f"connect({found.ip}, {found.port}) failed: {problem} ({self._after()})")
            return
        self._timer = self.io.later(found.timeout or self.shared.policy.timeout, self._backend_timeout)

    def _order(self, found: target.Target) -> spec.Order:
        identity: tuple[tuple[str, str], ...] = ()
        if found.trusted:
            identity = (("session", self.session_id()), ("rip", self.rip), ("rport", str(self.rport)),
                        ("lip", self.lip), ("lport", str(self.lport)), ("ttl", str(self.ttl - 1)), *found.forward)
        order = spec.Order(found.destuser, found.password, starttls=found.starttls, implicit_tls=found.tls,
                           pipelining=found.pipelining, identity=identity, client_id=self._frontend.client_id,
                           client_listed=self._frontend.listed)
        if found.mechanism:
            order.mechanism = found.mechanism
            order.sasl = sasl.client(found.mechanism, found.master or found.destuser, found.password, found.destuser)
        return order

    def backend_data(self, data: bytes) -> None:
        if self.state == BACKEND:
            assert self._backend is not None
            self._backend_result(self._backend.feed(data))

    def backend_tls_ready(self) -> None:
        assert self._backend is not None
        self._backend_result(self._backend.tls_started())

    def _backend_result(self, result: int) -> None:
        backend = self._backend
        assert backend is not None
        if backend.forward:
            self.io.send(backend.forward)
            backend.forward = b""
            if self.state != BACKEND:       # the client does not read, and was sent away for it
                return
        if backend.ignored:
            for text in backend.ignored:
                self.log(self.shared.log.error, self.label() + text)
            backend.ignored = ()
        out = backend.take_output()
        if out:
            self.io.backend_send(out)
        if result == READY:
            self._hand_over(backend)
        elif result == START_TLS:
            assert self._target is not None
            self.io.backend_tls(self._target)
        elif result == REFUSED:
            self._refused(backend)
        elif result == FAILED:
            self._fail(backend.failure, backend.reason)

    def _hand_over(self, backend: spec.Backend) -> None:
        """Both leftovers go along: what the client pipelined, and what the backend said behind its OK."""
        found = self._target
        assert found is not None
        frontend = self._frontend
        self._release_timers()
        now = self.io.now()
        known = self.shared.backends.get(found.ip, found.port, now)
        known.connecting -= 1
        known.succeeded = now
        frontend.welcome(backend)
        form = self.shared.format
        elements = shown = form.elements(self)
        if self.tls:
            self.tls_end = logline.TLS_END
            elements = form.elements(self)
        label = f"proxy({self.user},{found.ip}:{found.port}): "
        text = f"{label}Started proxying to <{found.ip}>"
        if found.host != found.ip:
            text += f" (<{found.host}>)"
        text += self._details()
        text += f" ({now - self._first_try:.3f} secs"
        if self._reconnects:
            text += f", {self._reconnects} reconnects"
        self.shared.log.info(form.line(text + ")", shown))
        self.state = RELAY
        self.io.hand_over(label, elements, frontend.leftover(), frontend.take_output() + backend.leftover())

    def _details(self) -> str:
        found = self._target
        assert found is not None
        text = ""
        if self._source:
            text += f" from {self._source}"
        if found.destuser != self.user:
            text += f" as user {found.destuser}"
        if found.master:
            text += f" (master {found.master})"
        return text

    def _refused(self, backend: spec.Backend) -> None:
        if backend.temporary and self._may_retry():
            self._retry(backend.reason)
            return
        if self.shared.policy.auth_verbose:
            self.log(self.shared.log.info, f"{self.label()}Login failed{self._details()}: {backend.reason}")
        self._leave_backend(failed=False)
        self.outcome = logline.BACKEND_REFUSED
        self._unfinished = ""
        self._frontend.backend_refused(backend.reply)
        self._back_to_commands()

    def backend_unreachable(self, reason: str) -> None:
        """connect() failed."""
        found = self._target
        assert found is not None
        self._backend_lost(f"connect({found.ip}, {found.port}) failed: {reason} ({self._after()})")

    def backend_gone(self, reason: str, *, final: bool = False) -> None:
        """The backend closed during the dialogue.  `final`: another attempt cannot end better."""
        if self.state != BACKEND:
            return
        assert self._backend is not None
        text = f": {reason}" if reason else ""
        self._backend_lost(f"Disconnected by server: Connection closed{text} (state={self._backend.describe()}, "
                           f"duration={self._elapsed()}s)", retry=not final)

    def backend_broken(self, reason: str) -> None:
        """TLS with the backend could not even begin."""
        self._fail(spec.INTERNAL_ERROR, f"Failed to start SSL handshake: {reason}")

    def _backend_timeout(self) -> None:
        found = self._target
        assert found is not None
        assert self._backend is not None
        self._timer = None
        if self.io.backend_connected():
            text = f"Login timed out in state={self._backend.describe()} ({self._after()})"
        else:
            text = f"connect({found.ip}, {found.port}) failed: Connection timed out ({self._after()})"
        self._backend_lost(text)

    def _backend_lost(self, text: str, *, retry: bool = True) -> None:
        self._fail(spec.CONNECT, text, retry=retry)

    def _fail(self, kind: int, text: str, *, retry: bool = True) -> None:
        """An attempt has failed for a reason that is not the client's."""
        text = _PREFIXES[kind] + text
        if retry and kind in _RETRIED and self._may_retry():
            self._retry(text)
            return
        self.log(self.shared.log.error, self.label() + text)
        self._leave_backend(failed=True)
        self._unfinished = ""
        self._frontend.refuse(spec.PROXY_MISCONFIGURED if kind == spec.REMOTE_CONFIG else spec.PROXY_UNAVAILABLE)
        self._back_to_commands()

    def _may_retry(self) -> bool:
        found = self._target
        assert found is not None
        policy = self.shared.policy
        left = (found.timeout or policy.timeout) - (self.io.now() - self._first_try)
        return self._reconnects < policy.max_reconnects and left > RETRY_LEAST

    def _retry(self, text: str) -> None:
        self._leave_backend(failed=True)
        self._reconnects += 1
        self.shared.log.debug(f"{self.label()}{text} - reconnecting (attempt #{self._reconnects})")
        self.state = RETRY
        self._timer = self.io.later(RETRY_PAUSE, self._attempt)

    def _leave_backend(self, *, failed: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._backend is None:
            return
        self._backend = None
        found = self._target
        assert found is not None
        now = self.io.now()
        known = self.shared.backends.get(found.ip, found.port, now)
        known.connecting -= 1
        if failed:
            known.failed = now
        else:
            known.succeeded = now
        self.io.backend_close()

    def _elapsed(self) -> int:
        return int(self.io.now() - self._first_try + 0.5)

    def _after(self) -> str:
        text = f"after {self._elapsed()} secs"
        if self._reconnects:
            text += f", {self._reconnects} reconnects"
        local = self.io.backend_local() or self._source
        return text + (f", local={local}" if local else "")

    # --- time ------------------------------------------------------------------------------------------------------

    def _login_timeout(self) -> None:
        if self.state in (BACKEND, RETRY):
            state = self._backend.describe() if self._backend is not None else "/none"
            waited = int(self.io.now() - self.created)
            self.log(self.shared.log.error, f"{self.label()}Logging in timed out (state={state}, duration={waited}s)")
            self.close("Inactivity", "Timeout while finishing login.")
        elif self.state == HANDSHAKE:
            self.close("Inactivity")
        elif self.state == AUTH:
            self.close("Inactivity during authentication", "Disconnected for inactivity during authentication.")
        else:
            self.close("Inactivity", "Disconnected for inactivity.")

    def _say_waiting(self) -> None:
        self._notice = None
        self._frontend.waiting()
        self._flush()

    def _stop_notice(self) -> None:
        if self._notice is not None:
            self._notice.cancel()
            self._notice = None

    def abandon(self) -> None:
        """Leave timers and the auth server; say and log nothing."""
        self.state = CLOSED
        self._release_timers()
        if self._request:
            self.shared.auth.cancel(self._request)
            self._request = 0

    def let_go(self) -> None:
        """Nothing calls us any more: drop what refers back to us."""
        self.io = _NOWHERE
        self._backend = None
        self.state = CLOSED if self.state != RELAY else RELAY

    def _release_timers(self) -> None:
        self._login_timer.cancel()
        self._stop_notice()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


#: The ports of a session that has ended: any use is a bug and fails.
_NOWHERE: Io = None  # type: ignore[assignment]
_OLD_CODES = {"temp": "temp_fail", "authz": "authz_fail", "user_disabled": "user_disabled",
              "pass_expired": "pass_expired"}
_ON_EVENT: dict[type, Callable[..., None]] = {
    events.PlainLogin: Session._on_login,
    events.SaslStart: Session._on_sasl,
    events.SaslResponse: Session._on_response,
    events.SaslAbort: Session._on_abort,
    events.StartTls: Session._on_starttls,
    events.Identify: Session._on_identify,
    events.Quit: Session._on_quit,
}


def _number(text: str | None, largest: int, otherwise: int) -> int:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) > largest:
        return otherwise
    return int(text)


def _mechanism_name(raw: bytes) -> str:
    """As logs show it."""
    name = raw.decode("ascii", "replace").replace("\ufffd", "?")
    return name if len(name) <= MECHANISM_MAX else name[:MECHANISM_MAX - 3] + "..."


def _temporary(machine: str) -> str:
    return f"Temporary authentication failure. [{machine}:{time.strftime('%Y-%m-%d %H:%M:%S')}]"
