"""The way from a target to a backend that says yes: attempts, their failures, the retries between them.

In: a session's Target; what the connection reports of the backend.  Out: one of the session's `proxied`, `refused` and
`unavailable`, once.  It must not know of the client's dialogue or of auth.  Limits: login_proxy_max_reconnects attempts
more, all within proxy_timeout from the first on.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from mailproxy import sasl
from mailproxy.login.ports import Pending
from mailproxy.login.target import Target
from mailproxy.proto import spec
from mailproxy.proto.spec import FAILED, READY, REFUSED, START_TLS

if TYPE_CHECKING:
    from mailproxy.login.session import Session

#: Between two attempts at a backend, and the least that must be left of the budget for another.
RETRY_PAUSE = 1.0
RETRY_LEAST = 1.1

_PREFIXES = {spec.CONNECT: "", spec.REMOTE: "Aborting due to remote server: ",
             spec.PROTOCOL: "Remote server sent invalid input: ",
             spec.INTERNAL_ERROR: "Aborting due to internal error: ",
             spec.REMOTE_CONFIG: "Aborting due to remote server: "}
_RETRIED = (spec.CONNECT, spec.REMOTE, spec.PROTOCOL)


class Proxying:
    """One login at a backend.  `machine`: the dialogue of the current attempt, None between two."""

    __slots__ = ("_reconnects", "_session", "_source", "_started", "_timer", "machine", "target")

    def __init__(self, session: Session, target: Target) -> None:
        self._session = session
        self.target = target
        self.machine: spec.Backend | None = None
        self._source = target.source or session.shared.sources.take()
        self._started = session.io.now()
        self._reconnects = 0
        self._timer: Pending | None = None

    # --- one attempt -----------------------------------------------------------------------------------------------

    def attempt(self) -> None:
        self._timer = None
        session, target = self._session, self.target
        if session.ttl <= 1:
            self.fail(spec.REMOTE_CONFIG, "TTL reached zero - proxies appear to be looping?")
            return
        known = session.shared.backends.get(target.ip, target.port, session.io.now())
        if known.is_down(target.host_down_after):
            self.fail(spec.CONNECT, "Host is down", retry=False)
            return
        session.trying()
        self.machine = session.shared.dialect.backend(self._order())
        known.connecting += 1
        problem = session.io.connect(target, self._source)
        if problem:
            self.unreachable(problem)
            return
        self._timer = session.io.later(target.timeout or session.shared.policy.timeout, self._timeout)

    def _order(self) -> spec.Order:
        target, session = self.target, self._session
        client_id, listed = session.dialogue()
        order = spec.Order(target.destuser, target.password, starttls=target.starttls, implicit_tls=target.tls,
                           pipelining=target.pipelining, client_id=client_id, client_listed=listed,
                           identity=session.identity(target.forward) if target.trusted else (),
                           machine=session.shared.machine, noauth=target.noauth, anonymous=target.anonymous)
        mechanism = target.mechanism or session.shared.dialect.mechanism
        if mechanism:
            order.mechanism = mechanism
            order.sasl = sasl.client(mechanism, target.master or target.destuser, target.password,
                                     target.destuser)
        return order

    def data(self, data: bytes) -> None:
        """Bytes of the backend."""
        if self.machine is not None:
            self._result(self.machine, self.machine.feed(data))

    def tls_ready(self) -> None:
        assert self.machine is not None
        self._result(self.machine, self.machine.tls_started())

    def _result(self, machine: spec.Backend, result: int) -> None:
        session = self._session
        if machine.forward:
            session.io.send(machine.forward)
            machine.forward = b""
            if self.machine is not machine:     # the client does not read, and was sent away for it
                return
        if machine.ignored:
            for text in machine.ignored:
                session.log(session.shared.log.error, self.label() + text)
            machine.ignored = ()
        out = machine.take_output()
        if out:
            session.io.backend_send(out)
            if self.machine is not machine:     # the backend does not read
                return
        if result == READY:
            self._won(machine)
        elif result == START_TLS:
            if machine.leftover():
                self.broken("SSL_connect() failed: plaintext instead of a handshake")
            else:
                session.io.backend_tls(self.target)
        elif result == REFUSED:
            self._refused(machine)
        elif result == FAILED:
            self.fail(machine.failure, machine.reason)

    # --- its end ---------------------------------------------------------------------------------------------------

    def _won(self, machine: spec.Backend) -> None:
        session, target = self._session, self.target
        if self._timer is not None:
            self._timer.cancel()
        now = session.io.now()
        known = session.shared.backends.get(target.ip, target.port, now)
        known.connecting -= 1
        known.succeeded = now
        label = self.label()
        text = f"{label}Started proxying to <{target.ip}>"
        if target.host != target.ip:
            text += f" (<{target.host}>)"
        text += self._details()
        text += f" ({now - self._started:.3f} secs"
        if self._reconnects:
            text += f", {self._reconnects} reconnects"
        self.machine = None             # what the backend says from now on is not for us
        session.proxied(machine, label, text + ")")

    def _refused(self, machine: spec.Backend) -> None:
        if machine.temporary and self._may_retry():
            self._retry(machine.reason)
            return
        session = self._session
        if session.shared.policy.auth_verbose:
            session.log(session.shared.log.info, f"{self.label()}Login failed{self._details()}: {machine.reason}")
        self.leave(failed=False)
        session.refused(machine.reply)

    def unreachable(self, reason: str) -> None:
        """connect() failed."""
        target = self.target
        self.fail(spec.CONNECT, f"connect({target.ip}, {target.port}) failed: {reason} ({self._after()})")

    def gone(self, reason: str, *, final: bool = False) -> None:
        """The backend closed during the dialogue.  `final`: another attempt cannot end better."""
        if self.machine is None:
            return
        text = f": {reason}" if reason else ""
        self.fail(spec.CONNECT, f"Disconnected by server: Connection closed{text} (state={self.machine.describe()}, "
                                f"duration={self._elapsed()}s)", retry=not final)

    def broken(self, reason: str) -> None:
        """TLS with the backend could not even begin."""
        self.fail(spec.INTERNAL_ERROR, f"Failed to start SSL handshake: {reason}")

    def _timeout(self) -> None:
        assert self.machine is not None
        self._timer = None
        if self._session.io.backend_connected():
            self.fail(spec.CONNECT, f"Login timed out in state={self.machine.describe()} ({self._after()})")
        else:
            self.unreachable("Connection timed out")

    def fail(self, kind: int, text: str, *, retry: bool = True) -> None:
        """An attempt has failed for a reason that is not the client's."""
        text = _PREFIXES[kind] + text
        if retry and kind in _RETRIED and self._may_retry():
            self._retry(text)
            return
        session = self._session
        session.log(session.shared.log.error, self.label() + text)
        self.leave(failed=True)
        session.unavailable(spec.PROXY_MISCONFIGURED if kind == spec.REMOTE_CONFIG else spec.PROXY_UNAVAILABLE)

    def _may_retry(self) -> bool:
        session = self._session
        policy = session.shared.policy
        left = (self.target.timeout or policy.timeout) - (session.io.now() - self._started)
        return self._reconnects < policy.max_reconnects and left > RETRY_LEAST

    def _retry(self, text: str) -> None:
        session = self._session
        self.leave(failed=True)
        self._reconnects += 1
        session.shared.log.debug(f"{self.label()}{text} - reconnecting (attempt #{self._reconnects})")
        session.waiting_for_retry()
        self._timer = session.io.later(RETRY_PAUSE, self.attempt)

    def leave(self, *, failed: bool) -> None:
        """Let go of the backend and of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.machine is None:
            return
        self.machine = None
        session, target = self._session, self.target
        now = session.io.now()
        known = session.shared.backends.get(target.ip, target.port, now)
        known.connecting -= 1
        if failed:
            known.failed = now
        else:
            known.succeeded = now
        session.io.backend_close()

    # --- words -----------------------------------------------------------------------------------------------------

    def label(self) -> str:
        return f"proxy({self._session.user},{self.target.ip}:{self.target.port}): "

    def describe(self) -> str:
        """SENT/RCVD of the current attempt."""
        return self.machine.describe() if self.machine is not None else "/none"

    def _details(self) -> str:
        target = self.target
        text = ""
        if self._source:
            text += f" from {self._source}"
        if target.destuser != self._session.user:
            text += f" as user {target.destuser}"
        if target.master:
            text += f" (master {target.master})"
        return text

    def _elapsed(self) -> int:
        return int(self._session.io.now() - self._started + 0.5)

    def _after(self) -> str:
        text = f"after {self._elapsed()} secs"
        if self._reconnects:
            text += f", {self._reconnects} reconnects"
        local = self._session.io.backend_local() or self._source
        return text + (f", local={local}" if local else "")
