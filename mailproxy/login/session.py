"""One client's way from the banner to the relay: the socket-free core.

Driven by three peers: the client (through its protocol's frontend machine), the auth server, and the backend (through
the backend machine).  What it asks of the world goes through `ports`.  No wire text stands here.

    GREET ──auth is known──> COMMAND ──login──> AUTH ──OK+proxy──> BACKEND ──backend OK──> RELAY
                               :                 └─OK─> HANDOFF ──a mail process takes it──> RELAY or end
                               ^  ^               │ │                │   ^
                               │  └──── refused ──┘ └─CONT─> SASL    │   └─ 1 s ─ RETRY <─┐
                               └───────────── failed ────────────────┴────────────────────┘
    any state ──client gone, time over, limits──> CLOSED

(Long, because it is one machine: every transition of the picture stands here, and nowhere else.)
"""
from __future__ import annotations

import binascii
import os
import re
import time
from collections.abc import Callable

from mailproxy.login import logline, target
from mailproxy.login.client import Client
from mailproxy.login.handoff import MailService
from mailproxy.login.logline import why_gone
from mailproxy.login.ports import HandingOff, Io, Pending
from mailproxy.login.proxying import Proxying
from mailproxy.login.setup import Setup
from mailproxy.proto import events, spec
from mailproxy.proto.spec import Frontend

GREET, COMMAND, AUTH, SASL, BACKEND, RETRY, HANDSHAKE, HANDOFF, RELAY, CLOSED = range(10)

#: Seconds from accept to the end of the login, whatever happens meanwhile.
LOGIN_TIMEOUT = 180.0
#: Seconds after which a client is told that the auth server is not there yet.
NOTICE_BEFORE_READY = 10.0
#: Characters of a mechanism's name, whatever the client says it is.
MECHANISM_MAX = 64
#: Bytes that a client may send before the auth server is known.
EARLY_MAX = 1024

_BASE64 = re.compile(rb"[A-Za-z0-9+/]*=*\Z")

_INTERNAL = "Internal login failure. Refer to server log for more information."

#: code= of a FAIL -> (what the frontend says, what the log says of the session)
_CODES = {
    "": (spec.AUTH_FAILED, logline.FAILED),
    "temp_fail": (spec.TEMP_FAIL, logline.TEMP_FAILED),
    "authz_fail": (spec.AUTHZ_FAILED, logline.AUTHZ_FAILED),
    "user_disabled": (spec.USER_DISABLED, logline.DISABLED),
    "pass_expired": (spec.PASS_EXPIRED, logline.EXPIRED),
    "invalid_base64": (spec.INVALID_BASE64, logline.BAD_BASE64),
}


class Session(Client):
    """A client's dialogue with us."""

    __slots__ = ("_frontend", "_login_timer", "_notice", "_request", "_unfinished", "attempts", "auth_started",
                 "auth_user", "created", "fields", "handoff", "io", "listener", "method", "orig_user", "outcome",
                 "proxying", "state", "successes", "tls_end", "tls_error", "user")

    io: Io
    listener: str
    user: str
    orig_user: str
    auth_user: str
    method: str

    def __init__(self, shared: Setup, io: Io, frontend: Frontend, remote: tuple[str, int], local: tuple[str, int],
                 listener: str = "") -> None:
        super().__init__(shared, remote, local)
        self.io = io
        self._frontend = frontend
        self.listener = listener
        self.state = GREET
        self.created = self.auth_started = io.now()
        self.tls_error = self.tls_end = ""
        self.user = self.orig_user = self.auth_user = self.method = ""
        self.fields: dict[str, str] = {}
        self.attempts = self.successes = 0
        self.outcome = logline.NOTHING
        self.proxying: Proxying | None = None
        self.handoff: HandingOff | None = None
        self._unfinished = ""
        self._request = 0
        self._notice: Pending | None = None
        self._login_timer = io.later(LOGIN_TIMEOUT, self._login_timeout)

    # --- what logs show --------------------------------------------------------------------------------------------

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
            self._frontend = self.shared.frontend(self.rip, self.lip)
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
            self._frontend = self.shared.frontend(self.rip, self.lip)
            self._frontend.feed(early)
            self._stop_notice()
            self._greet()

    def _greet(self) -> None:
        self.state = COMMAND
        auth = self.shared.auth
        self._frontend.greet(self.tls, self.secured, self.trusted(), auth.challenge(self.shared.machine)
                             if self.shared.dialect.apop and auth.mechanism("APOP") is not None else "")
        self._go_on()

    def handshaking(self) -> None:
        self.state = HANDSHAKE

    def tls_ready(self) -> None:
        """The handshake that STARTTLS asked for is done."""
        self.tls = self.secured = True
        self.state = COMMAND
        self._frontend.secure()
        self._frontend.resume()
        self._flush()
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
        if self.state in (AUTH, SASL, BACKEND, RETRY, HANDOFF):
            reason += self.shared.dialect.unfinished
        extra = why_gone(self, self.io.now())
        self._leave(reason + (f" {extra}" if extra else ""))

    def _leave(self, why: str) -> None:
        self.log(self.shared.log.info, f"Disconnected: {why}")
        self.state = CLOSED             # first: a farewell that does not fit must not end the session again
        self._flush()
        self._release()
        self.io.close()

    def _release(self) -> None:
        self._release_timers()
        if self._request:
            self.shared.auth.cancel(self._request)
            self._request = 0
        if self.proxying is not None:
            self.proxying.leave(failed=False)
        if self.handoff is not None:
            self.handoff.stop()
            self.io.backend_close()

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
        if event.first and event.forwarded and self.trusted():
            self.adopt(event.forwarded)
        wanted = self.shared.policy.id_log
        if wanted:
            shown = [f"{key}={'NIL' if value is None else value}" for key, value in event.said
                     if wanted == ("*",) or key.lower() in wanted]
            if shown:
                self.log(self.shared.log.info, "ID sent: " + ", ".join(shown))

    def _on_login(self, event: events.PlainLogin) -> None:
        self._count_attempt("")
        if not self.secured and self.shared.policy.plaintext_needs_tls:
            self._log_refusal("Login failed: Plaintext authentication disabled")
            self.user = event.user.decode("utf-8", "surrogateescape") or self.user
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
        if flags is None or ("private" in flags and not event.private):
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

    def _on_remark(self, event: events.Remark) -> None:
        self._log_refusal(event.text)

    def _log_refusal(self, text: str) -> None:
        if self.shared.policy.auth_verbose:
            self.log(self.shared.log.info, text)

    def _on_response(self, event: events.SaslResponse) -> None:
        if _BASE64.match(event.data) is None:
            self.shared.auth.cancel(self._request)
            self._request = 0
            self.state = COMMAND
            self.outcome = logline.FAILED
            self._log_refusal(f"Authenticate {self.method} failed: Invalid base64 in response")
            self._frontend.refuse(spec.BAD_CONTINUATION)
            return
        self.state = AUTH
        self._unfinished = "disconnected while authenticating"
        self.shared.auth.answer(self._request, event.data)

    def _on_abort(self, event: events.SaslAbort) -> None:
        self.shared.auth.cancel(self._request)
        self._request = 0
        self.state = COMMAND
        if event.problem:
            self.outcome = logline.FAILED
            self._log_refusal(f"Authenticate {self.method} failed: {event.problem}")
        else:
            self.outcome = logline.ABORTED
        self._frontend.refuse(spec.ABORTED, event.problem)

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
        self._request = self.shared.auth.ask(
            self, mechanism, self.auth_parameters(self._frontend.client_id), initial)
        if not self._request:
            # The connection to auth is down: it is asked again as soon as it is back.
            self._say_waiting()

    def auth_continue(self, challenge: bytes) -> None:
        self.state = SASL
        self._unfinished = "client didn't finish SASL auth"
        self._frontend.challenge(challenge)
        self._go_on()

    def auth_ok(self, fields: dict[str, str]) -> None:
        """The user is who he says; the fields tell what to do with him."""
        request, self._request = self._request, 0
        self._unfinished = ""
        self._learn(fields)
        self.successes += 1
        self.fields = fields
        self.outcome = logline.NOTHING
        if "proxy" in fields:
            self._start_proxying(fields)
        elif "nologin" in fields:
            self._disabled(fields)
        elif self.shared.mail is not None:
            self._hand_off(request, self.shared.mail)
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
        self._refuse_internally()
        self._back_to_commands()

    def _refuse_internally(self) -> None:
        self._frontend.refuse(spec.INTERNAL, f"{_INTERNAL} [{time.strftime('%Y-%m-%d %H:%M:%S')}]")

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

    def auth_slow(self) -> None:
        """The auth server takes its time: the client should know that it must wait."""
        if self.state == AUTH:
            self._say_waiting()

    def auth_overdue(self) -> None:
        """No answer will come any more.  A request that waits for the client is not the auth server's fault."""
        if self.state == AUTH:
            self.shared.auth.cancel(self._request)
            self.auth_lost()

    def _back_to_commands(self) -> None:
        self.state = COMMAND
        self._stop_notice()
        self._frontend.resume()
        self._go_on()

    def _go_on(self) -> None:
        """Out with the reply, and on with what the client has sent meanwhile."""
        if self.work():
            self.io.resume_reading()

    # --- the mail process ------------------------------------------------------------------------------------------

    def _hand_off(self, request: int, service: MailService) -> None:
        self.state = HANDOFF
        self._unfinished = "disconnected while finishing login"
        frontend = self._frontend
        if "postlogin_socket" in self.fields:
            service = MailService(self.fields["postlogin_socket"], service.limit)
        self.handoff = self.io.hand_off(request, service, frontend.mail_input(), frontend.leftover())
        self.handoff.begin()

    def handed_over(self, leftover: bytes) -> None:
        """A mail process has the client, but for what it has said and a hand-off did not hold."""
        self._release_timers()
        self.log(self.shared.log.info, "Login")
        self.state = RELAY
        self.io.taken(leftover)

    def not_handed_over(self, request: int, *, told: bool) -> None:
        """Something is wrong with the mail process; `told`: it has said so to the client."""
        unfinished = self.shared.dialect.unfinished
        why = f"{_INTERNAL}{unfinished} (internal failure, {self.successes} successful auths)" if unfinished \
            else f"Internal login failure (pid={os.getpid()} id={request})"
        if told:
            self._release_timers()
            self.log(self.shared.log.info, f"Disconnected: {why}")
            self.state = RELAY
            self.io.taken(b"")
        else:
            self._refuse_internally()
            self._leave(why)

    def too_many(self, limit: int) -> None:
        """The user has as many sessions as one address may have."""
        why = f"Maximum number of connections from user+IP exceeded (mail_max_userip_connections={limit})"
        self._frontend.refuse(spec.TOO_MANY, why)
        self._leave(why)

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
        self._unfinished = "disconnected while finishing login"
        self.proxying = Proxying(self, found)
        self.proxying.attempt()

    def dialogue(self) -> tuple[bytes, bool]:
        """What the client's dialogue means for the backend's: its ID to pass on, and whether it asked for
        capabilities."""
        return self._frontend.client_id, self._frontend.listed

    def trying(self) -> None:
        self.state = BACKEND

    def waiting_for_retry(self) -> None:
        self.state = RETRY

    def proxied(self, backend: spec.Backend, label: str, text: str) -> None:
        """The backend said yes.  Both leftovers go along: what the client pipelined, and what came behind the OK."""
        frontend = self._frontend
        self._release_timers()
        frontend.welcome(backend)
        form = self.shared.format
        elements = form.elements(self)
        self.shared.log.info(form.line(text, elements))
        if self.tls:
            self.tls_end = logline.TLS_END
            elements = form.elements(self)
        self.state = RELAY
        self.io.hand_over(label, elements, frontend.leftover(), frontend.take_output() + backend.leftover())

    def refused(self, reply: bytes) -> None:
        """The backend said no."""
        self.outcome = logline.BACKEND_REFUSED
        self._unfinished = ""
        self.proxying = None
        self._frontend.backend_refused(reply)
        self._back_to_commands()

    def unavailable(self, why: int) -> None:
        """No backend could be asked, for this reason of spec."""
        self._unfinished = ""
        self.proxying = None
        self._frontend.refuse(why)
        self._back_to_commands()

    # --- time ------------------------------------------------------------------------------------------------------

    def _login_timeout(self) -> None:
        if self.proxying is not None:
            waited = int(self.io.now() - self.created)
            self.log(self.shared.log.error, f"{self.proxying.label()}Logging in timed out "
                                            f"(state={self.proxying.describe()}, duration={waited}s)")
            self.close("Inactivity", "Timeout while finishing login.")
        elif self.state == HANDOFF:
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
        """Leave timers, the auth server and the backend; say and log nothing."""
        self.state = CLOSED
        self._release()

    def let_go(self) -> None:
        """Nothing calls us any more: drop what refers back to us."""
        self.io = _NOWHERE
        self.proxying = None
        self.handoff = None
        self.state = CLOSED if self.state != RELAY else RELAY

    def _release_timers(self) -> None:
        self._login_timer.cancel()
        self._stop_notice()


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
    events.Remark: Session._on_remark,
    events.Quit: Session._on_quit,
}


def _mechanism_name(raw: bytes) -> str:
    """As logs show it."""
    name = raw.decode("ascii", "replace").replace("\ufffd", "?")
    return name if len(name) <= MECHANISM_MAX else name[:MECHANISM_MAX - 3] + "..."


def _temporary(machine: str) -> str:
    return f"Temporary authentication failure. [{machine}:{time.strftime('%Y-%m-%d %H:%M:%S')}]"
