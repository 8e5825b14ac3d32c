"""One connection of an auth client: handshake, AUTH, CONT, CANCEL.

In: bytes of the socket.  Out: lines, joined per batch of events.  A peer that breaks the protocol is logged and
disconnected; a user's bad input is only that request's failure.  Knows nothing of databases: the Plan does.
(Long, because a request is parsed, started, continued and answered by one table of commands.)
"""
from __future__ import annotations

import binascii
import secrets
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailproxy.auth import mechanisms, outcome, reply
from mailproxy.auth.request import Request
from mailproxy.auth.schemes import held, made_slowly
from mailproxy.errors import ProtocolError
from mailproxy.ipc.authwire import MAJOR, MAX_LINE, MINOR, Lines, encode, escape, unescape
from mailproxy.net.loop import IN, OUT, quiet_close
from mailproxy.sasl import apop
from mailproxy.sasl.mechanism import Answer, Challenge, Credentials, Refusal, Verdict, Wanted
from mailproxy.sasl.scram import decoy_salt

if TYPE_CHECKING:
    from mailproxy.auth.server import Server

#: Seconds after its last activity that a request is forgotten.
REQUEST_TIMEOUT = 150.0
#: Queued output above which we stop reading, and below which we go on.
OUTPUT_HIGH, OUTPUT_LOW = 50 * 1024, 50 * 1024 // 3
#: Live requests of one connection: ten times what a login process may hold.
MAX_REQUESTS = 20_000
_READ = 65536
_MAX_ID = 4294967295
_MAX_PID = 2147483647
#: States of a request; numbers as in the log.
NEW, LOOKUP, WAIT_CLIENT, FINISHED = range(4)


class _Ending:
    """Waits for the client to have taken in what came last."""

    __slots__ = ()

    def respond(self, data: bytes | None) -> Answer:
        return _HEARD


#: Mechanisms that tell their clients why before they tell them no.
_EXPLAINING = frozenset(("XOAUTH2", "OAUTHBEARER"))
_HEARD = Verdict(True)
_ENDING = _Ending()
#: Failures of which a mechanism hides that they are known before the client has proved anything.
_HIDDEN = frozenset((outcome.UNKNOWN, outcome.MISMATCH, outcome.SCHEME_MISSING))


class Client:
    """`login`: a socket of login processes; requests stay after OK and proxy fields are completed.
    `_handle` is the handler of the next line: it changes with the handshake."""

    __slots__ = ("_closed", "_fd", "_handle", "_lines", "_minor", "_number", "_out", "_out_size", "_reading",
                 "_requests", "_server", "_socket", "_writing", "cookie", "login", "pid")

    def __init__(self, server: Server, connection: socket.socket, login_socket: bool, number: int) -> None:
        self._server = server
        self._socket = connection
        self._fd = connection.fileno()
        self._lines = Lines(MAX_LINE)
        self._out: list[str] = []
        self._out_size = 0
        self._requests: dict[int, Request] = {}
        self._closed = False
        self._reading = True
        self._writing = b""
        self._minor = 0
        self._handle: Callable[[str], None] = self._first
        self.login = login_socket
        self.pid = 0
        self.cookie = secrets.token_hex(16)
        self._number = number
        server.loop.register(self._fd, IN, self._ready)
        server.joined(self)
        self._greet(number)
        self.flush()

    def _greet(self, number: int) -> None:
        self.send(f"VERSION\t{MAJOR}\t{MINOR}\n{self._server.mech_lines}SPID\t{self._server.pid}\nCUID\t{number}\n"
                  f"COOKIE\t{self.cookie}\nDONE")

    def apop(self) -> apop.Server:
        return apop.Server(self._server.pid, self._number, self._server.started)

    # -- bytes ----------------------------------------------------------------------------------------------------

    def _ready(self, mask: int) -> None:
        if mask & OUT:
            self.flush()
        if self._closed or (not self._reading and mask & IN):
            return
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(error.strerror or str(error))
            return
        if not data:
            self.close("EOF")
            return
        try:
            lines = self._lines.feed(data)
        except ProtocolError as error:
            self._broken(f"BUG: Auth client {self.pid} {error}")
            return
        for line in lines:
            self._handle(line)
            if self._closed:
                return

    def send(self, line: str) -> None:
        """Queue one line; the end of the batch writes it."""
        if self._closed:
            return
        if not self._out:
            self._server.dirty.append(self)
        self._out.append(line)
        self._out_size += len(line)
        if self._out_size > OUTPUT_HIGH and self._reading:
            self.flush()

    def flush(self) -> None:
        """Write what is queued, in one call."""
        if self._closed:
            return
        data = self._writing
        if self._out:
            self._out.append("")
            data += encode("\n".join(self._out))
            self._out.clear()
        if not data:
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.close(error.strerror or str(error))
            return
        blocked = bool(self._writing)
        self._writing = rest = data[sent:]
        self._out_size = len(rest)
        if rest or blocked:
            self._pace()

    def _pace(self) -> None:
        """Stop reading while the peer does not take its answers."""
        if self._reading:
            self._reading = self._out_size <= OUTPUT_HIGH
        else:
            self._reading = self._out_size < OUTPUT_LOW
        self._server.loop.modify(self._fd, (IN if self._reading else 0) | (OUT if self._writing else 0))

    def _broken(self, text: str) -> None:
        self._server.log.error(text)
        self.close("")

    def close(self, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        pending = sum(request.state != FINISHED for request in self._requests.values())
        for request in self._requests.values():
            if request.timer is not None:
                request.timer.cancel()
        self._requests.clear()
        if pending and reason and self._server.journal.debug:
            self._server.log.debug(f"auth client {self.pid} disconnected with {pending} pending requests: {reason}")
        self._server.loop.unregister(self._fd)
        quiet_close(self._socket)
        self._server.closed(self)

    # -- handshake ------------------------------------------------------------------------------------------------

    def _first(self, line: str) -> None:
        fields = line.split("\t")
        if len(fields) < 3 or fields[0] != "VERSION" or not (is_number(fields[1]) and is_number(fields[2])):
            self._broken(f"BUG: Authentication client sent invalid VERSION line: {line[:200]}")
        elif int(fields[1]) != MAJOR:
            self._broken("Authentication client not compatible with this server (mixed old and new binaries?)")
        else:
            self._minor = int(fields[2])
            self._handle = self._second

    def _second(self, line: str) -> None:
        word, _, value = line.partition("\t")
        if word != "CPID":
            self._broken(f"BUG: Authentication client sent unknown handshake command: {line[:200]}")
            return
        pid = int(value[:10]) if is_number(value) else 0
        if not 0 < pid <= _MAX_PID:
            self._broken("BUG: Authentication client said it's PID 0")
            return
        if self.login:
            if not self._server.claim(pid, self):
                self._broken(f"BUG: Authentication client gave a PID {pid} of existing connection")
                return
            self.pid = pid
        self._handle = self._command

    # -- commands -------------------------------------------------------------------------------------------------

    def _command(self, line: str) -> None:
        if line.startswith("AUTH\t"):
            self._auth(line)
        elif line.startswith("CONT\t"):
            self._continue(line)
        elif line.startswith("CANCEL\t"):
            self._cancel(line)
        else:
            self._broken(f"BUG: Authentication client sent unknown command: {line[:200]}")

    def _auth(self, line: str) -> None:
        parts = line.split("\t")
        if len(parts) < 3 or not is_number(parts[1]) or not 0 < (number := int(parts[1])) <= _MAX_ID:
            self._broken(f"BUG: Authentication client {self.pid} sent broken AUTH request")
            return
        server = self._server
        if server.tracing:
            server.trace_in(self.pid, parts)
        mech = parts[2].upper()
        params = parts[3:]
        # the order that every login process uses needs no dict of parameters; anything else is looked at closely
        plan = server.plans_by_parameter.get(params[0]) if params else None
        if plan is not None and params[-1].startswith("resp=") and line.count("\tresp") == 1 \
                and "\tforward_fields" not in line:
            response: str | None = params[-1][5:]
            request = Request(self, number, mech, params, plan, self._done)
        else:
            found = self._closely(number, mech, params)
            if found is None:
                return
            request = found
            response = request.args.get("resp")
        if not self._admitted(request):
            return
        wait = server.penalty.wait(request) if server.penalty is not None else 0.0
        if wait:
            self._put_off(request, response, wait)
        else:
            self._begin(request, response)

    def _put_off(self, request: Request, response: str | None, wait: float) -> None:
        """Earlier failures cost time."""
        def begin() -> None:
            self._forget(request)
            self._begin(request, response)
        request.state = LOOKUP
        self._requests[request.id] = request
        request.timer = self._server.loop.call_later(wait, begin)

    def _closely(self, number: int, mech: str, params: list[str]) -> Request | None:
        """Parameters in any order; None when the client was disconnected for them."""
        server = self._server
        keys = [param.partition("=")[0] for param in params]
        if "resp" in keys and keys.index("resp") != len(keys) - 1:
            self._broken(f"BUG: Authentication client {self.pid} sent AUTH parameters after 'resp'")
            return None
        request = Request(self, number, mech, params, server.default_plan, self._done)
        service = request.args.get("service")
        if not service:
            self._broken(f"BUG: Authentication client {self.pid} didn't specify service in request")
            return None
        request.plan = server.plans.get(service) or server.default_plan
        if "forward_fields" in request.args:
            forward(request, request.args["forward_fields"])
        return request

    def _admitted(self, request: Request) -> bool:
        """May this request begin at all?"""
        requests = self._requests
        server = self._server
        if request.id in requests:
            self._broken(f"BUG: Authentication client {self.pid} sent a duplicate ID {request.id}")
            return False
        if request.mech not in server.mechanisms:
            # a disconnect would take every other login of that process with it
            server.log.error(f"BUG: Authentication client {self.pid} requested unsupported authentication mechanism "
                             f"{request.mech[:64]}")
            self.send(f"FAIL\t{request.id}")
            return False
        if len(requests) >= MAX_REQUESTS:
            server.log.error(f"Authentication client {self.pid} has more than {MAX_REQUESTS} requests")
            self.send(f"FAIL\t{request.id}\tcode=temp_fail")
            return False
        settings = request.plan.settings
        return not settings.auth_ssl_require_client_cert or self._certified(request)

    def _begin(self, request: Request, response: str | None) -> None:
        data: bytes | None = None
        if response:
            try:
                data = b"" if response == "=" else binascii.a2b_base64(response, strict_mode=True)
            except ValueError:
                self.send(f"FAIL\t{request.id}\tcode=invalid_base64\treason=Invalid base64 data in initial response")
                return
        elif response is not None and self._minor >= 2:         # older peers mean "none" by an empty one
            data = b""
        request.state = LOOKUP
        self._requests[request.id] = request
        if request.mech == "PLAIN" and data is not None:
            self._proceed(request, mechanisms.PLAIN.respond(data))
            return
        request.sasl = mechanisms.make(request)
        if request.mech == "LOGIN" and not data:
            data = None                     # the prompt is due either way
        self._proceed(request, request.sasl.respond(data))

    def _certified(self, request: Request) -> bool:
        if "valid-client-cert" not in request.args:
            reason = "Client didn't present valid SSL certificate"
        elif request.plan.settings.auth_ssl_username_from_cert and not request.args.get("cert_username"):
            reason = "SSL certificate didn't contain username"
        else:
            return True
        self._server.journal.info(request.mech.lower(), request, reason)
        self.send(f"FAIL\t{request.id}\treason={reason}")
        return False

    def _continue(self, line: str) -> None:
        _, number_text, *rest = line.split("\t")
        if not is_number(number_text) or not rest:
            self._broken(f"BUG: Authentication client {self.pid} sent broken CONT request")
            return
        number = int(number_text)
        request = self._requests.get(number)
        if request is None or request.state == FINISHED:
            self.send(f"FAIL\t{number}\treason=Authentication request timed out")
            return
        if request.state != WAIT_CLIENT:
            self._forget(request)
            self.send(f"FAIL\t{number}\treason=Unexpected continuation")
            return
        try:
            data = binascii.a2b_base64("\t".join(rest), strict_mode=True)
        except ValueError:
            self._server.journal.info(request.mech.lower(), request, "Invalid base64 data in continued response")
            self._forget(request)
            self.send(f"FAIL\t{number}\tcode=invalid_base64\treason=Invalid base64 data in continued response")
            return
        self._stop_timer(request)
        request.state = LOOKUP
        self._proceed(request, request.sasl.respond(data))

    def _cancel(self, line: str) -> None:
        number = line[7:]
        if not is_number(number):
            self._broken("BUG: Authentication client sent broken CANCEL")
            return
        request = self._requests.get(int(number))
        if request is not None:
            self._charge(request)
            self._forget(request)

    def _charge(self, request: Request) -> None:
        """Who has heard a refusal as a challenge pays for it, also without an answer."""
        if request.state != WAIT_CLIENT or request.sasl is not _ENDING or request.result == outcome.OK:
            return
        if self._server.policy is not None:
            self._server.policy.report(request, success=False)
        if self._server.penalty is not None:
            self._server.penalty.failed(request)

    # -- one request ----------------------------------------------------------------------------------------------

    def _proceed(self, request: Request, answer: Answer) -> None:
        if answer.__class__ is Credentials:
            if request.original_user is None and not self._name(request, answer.authcid, answer.authzid):
                return
            request.password = answer.password.reveal()
            if request.mech == "ANONYMOUS":
                request.result = outcome.OK
                self._done(request)
            else:
                self._look_up(request)
        elif answer.__class__ is Challenge:
            if answer.user is not None and not self._name(request, answer.user, ""):
                return
            request.state = WAIT_CLIENT
            request.timer = self._server.loop.call_later(REQUEST_TIMEOUT, lambda: self._expire(request))
            self.send(f"CONT\t{request.id}\t{binascii.b2a_base64(answer.data, newline=False).decode()}")
        elif answer.__class__ is Verdict:
            self._judged(request, answer)
        elif answer.__class__ is Wanted:
            if self._name(request, answer.authcid, answer.authzid):
                request.wanted = answer.scheme
                request.realm = answer.realm
                self._look_up(request)
        elif answer.__class__ is Refusal:
            if answer.user is not None and request.original_user is None and not self._name(request, answer.user, ""):
                return
            if self._server.journal.verbose:
                self._server.journal.info(request.mech.lower(), request, answer.text)
            request.result = outcome.MISMATCH
            self._refuse(request)

    def _name(self, request: Request, authcid: str, authzid: str) -> bool:
        """Accept the name, or refuse the request."""
        if request.mech == "ANONYMOUS":
            if self._server.journal.verbose:
                self._server.journal.info(f"anonymous({authcid})", request, "login")
            request.user = request.original_user = request.plan.settings.auth_anonymous_username
            return True
        error = request.plan.names.prepare(request, authcid, authzid)
        if error is None:
            return True
        if self._server.journal.verbose:
            self._server.journal.info(request.mech.lower(), request, error)
        request.result = outcome.MISMATCH
        self._done(request)
        return False

    def _look_up(self, request: Request) -> None:
        policy = self._server.policy
        if policy is None or not policy.before:
            request.plan.run(request)
            return

        def go_on(allowed: bool) -> None:
            if request.state == LOOKUP:
                if allowed:
                    request.plan.run(request)
                else:
                    self._refuse(request)
        policy.ask(request, go_on, tarpit=True)

    def _done(self, request: Request) -> None:
        """The databases have spoken."""
        if request.state != LOOKUP:                 # cancelled or disconnected in the meantime
            return
        if request.wanted:
            self._found(request)
        elif request.result == outcome.OK:
            self._granted(request)
        elif request.mech in _EXPLAINING and request.result != outcome.INTERNAL and request.original_user is not None:
            self._last_words(request, request.sasl.refused(request.plan.openid_configuration_url))
        else:
            self._refuse(request)

    def _found(self, request: Request) -> None:
        """What a mechanism wanted to compare with, to the mechanism."""
        scheme, request.wanted = request.wanted, ""
        stored = request.held
        if request.result in _HIDDEN:
            self._proceed(request, request.sasl.check(None))
        elif request.result != outcome.OK or stored is None:
            self._refuse(request)
        else:
            user = request.original_user or ""
            if request.realm is not None and "@" in user:
                user = f"{user}@{request.realm}"
            salt = decoy_salt(mechanisms.DECOY_KEY, user)
            if made_slowly(stored, scheme):
                self._server.pool.make(stored, scheme, user, salt,
                                       lambda data, complaint: self._made(request, data, complaint))
            else:
                self._proceed(request, request.sasl.check(held(stored, scheme, user, salt)))

    def _made(self, request: Request, data: bytes | None, complaint: str) -> None:
        if request.state != LOOKUP:
            return
        if data is None:
            self._server.journal.error(request.mech.lower(), request, complaint)
            request.result = outcome.INTERNAL
            self._refuse(request)
        else:
            self._proceed(request, request.sasl.check(data))

    def _judged(self, request: Request, verdict: Verdict) -> None:
        """A mechanism has compared, or its client has heard the last words."""
        if verdict is _HEARD:
            self._settle(request)
        elif not verdict.right:
            if request.result == outcome.OK:
                request.result = outcome.MISMATCH
                if self._server.journal.verbose:
                    self._server.journal.info(request.mech.lower(), request, "Password mismatch")
            self._refuse(request)
        elif verdict.replacement:
            self._server.pool.replace(request.holder, request, verdict.replacement,
                                      lambda problem: self._replaced(request, problem))
        else:
            request.final = verdict.data
            self._granted(request)

    def _replaced(self, request: Request, problem: str) -> None:
        """Who cannot be kept from using a password twice must not use it once."""
        server = self._server
        if problem:
            server.journal.error(request.mech.lower(), request, f"Failed to update credentials: {problem}")
            request.result = outcome.INTERNAL
        else:
            request.sasl.spend()
            if server.cache is not None and request.key is not None:
                server.cache.drop(request.key)
        if request.state == LOOKUP:
            if problem:
                self._refuse(request)
            else:
                self._granted(request)

    def _granted(self, request: Request) -> None:
        policy = self._server.policy
        if policy is None or not policy.after:
            self._finish(request)
            return

        def go_on(allowed: bool) -> None:
            if request.state == LOOKUP:
                if allowed:
                    self._finish(request)
                else:
                    self._refuse(request)
        policy.ask(request, go_on, tarpit=False)

    def _finish(self, request: Request) -> None:
        if request.final and "final-resp-ok" not in request.args:
            data, request.final = request.final, b""
            self._last_words(request, data)
        else:
            self._settle(request)

    def _last_words(self, request: Request, data: bytes) -> None:
        """The client answers them before it hears the result."""
        request.sasl = _ENDING
        self._proceed(request, Challenge(data))

    def _settle(self, request: Request) -> None:
        if request.result != outcome.OK:
            self._refuse(request)
        elif self.login and ("proxy" in request.fields or "proxy_maybe" in request.fields):
            self._server.proxying.prepare(request, self._prepared)
        else:
            self._prepared(request)

    def _prepared(self, request: Request) -> None:
        if request.state != LOOKUP:
            return
        if request.result != outcome.OK:
            self._refuse(request)
        elif request.delay_until:
            wait = request.delay_until - time.time()
            request.delay_until = 0.0
            self._server.loop.call_later(max(wait, 0.0), lambda: self._prepared(request))
        else:
            self._accept(request)

    def _accept(self, request: Request) -> None:
        response = binascii.b2a_base64(request.final, newline=False).decode() if request.final else None
        line = reply.ok(request, self.login, response)
        if self._server.tracing:
            self._server.trace_out(line)
        self.send(line)
        if self._server.policy is not None:
            self._server.policy.report(request, success=True)
        if request.penalty and self._server.penalty is not None:
            self._server.penalty.succeeded(request)
        if self._closed:
            return
        if self.login and "proxy" not in request.fields and "nologin" not in request.fields:
            request.state = FINISHED                # a mail process may ask for it, or the login process cancel it
            request.timer = self._server.loop.call_later(REQUEST_TIMEOUT, lambda: self._expire(request))
        else:
            request.state = FINISHED
            del self._requests[request.id]

    def _refuse(self, request: Request) -> None:
        request.state = FINISHED
        self._requests.pop(request.id, None)
        if self._server.policy is not None:
            self._server.policy.report(request, success=False)
        if self._server.penalty is not None and request.result != outcome.INTERNAL:
            self._server.penalty.failed(request)
        line = reply.fail(request)
        if "nodelay" in request.fields:
            self._say(line)
        else:
            self._server.failures.add(request.plan.failure_delay, lambda: self._say(line))

    def _say(self, line: str) -> None:
        if self._server.journal.debug:
            self._server.trace_out(line)
        self.send(line)

    def _expire(self, request: Request) -> None:
        if self._requests.pop(request.id, None) is None:
            return
        self._charge(request)
        if request.state == FINISHED:
            self._server.log.error(f"Request {self.pid}.{request.id} timed out after {REQUEST_TIMEOUT:.0f} secs, "
                                   f"state={FINISHED}")
        else:
            self._server.journal.info(request.mech.lower(), request, "Request timed out waiting for client to "
                                      f"continue authentication ({REQUEST_TIMEOUT:.0f} secs)")
        request.state = FINISHED

    def hand_over(self, number: int) -> tuple[Request | None, str]:
        """The request of a login that was successful: it is not ours any more.  Or why there is none."""
        request = self._requests.get(number)
        if request is None:
            return None, f"Master request {self.pid}.{number} not found"
        if request.state != FINISHED:
            return None, f"Master requested unfinished authentication request {self.pid}.{number}"
        self._forget(request)
        return request, ""

    def _forget(self, request: Request) -> None:
        self._stop_timer(request)
        request.state = FINISHED
        self._requests.pop(request.id, None)

    def _stop_timer(self, request: Request) -> None:
        if request.timer is not None:
            request.timer.cancel()
            request.timer = None


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


def forward(request: Request, nested: str) -> None:
    """A list of key=value from a trusted peer; survives failures of databases."""
    for word in nested.split("\t"):
        if word:
            key, _, value = word.partition("=")
            request.fields["forward_" + escape(key)] = unescape(value)
    request.keep()
