"""ROLE auth: builds the server from what `prepare` made, and runs it until the master wants it gone.

In: listeners, settings.  Out: answers to login processes and other auth clients.  HUP flushes the cache, USR2 logs its
statistics, TERM ends at once (refusals that wait are answered first), a closed dead_fd or QUIT ends it when the last
connection is gone.
"""
from __future__ import annotations

import gc
import os
import signal
import time
from typing import Any

from mailproxy.auth.cache import Cache
from mailproxy.auth.chain import Plan, make_step
from mailproxy.auth.journal import Journal
from mailproxy.auth.passdb.driver import Cautious, open_driver
from mailproxy.auth.penalty import Penalty
from mailproxy.auth.server import Server
from mailproxy.auth.setup import PENALTY_SOCKET, Setup, build
from mailproxy.auth.userchain import UserPlan
from mailproxy.auth.workers import Pool
from mailproxy.ipc.contract import Child
from mailproxy.log.pipe import Log
from mailproxy.net.loop import ERR, HUP, Loop
from mailproxy.net.signals import Signals


def prepare(conf: Any, service: Any) -> Setup:
    return build(conf)


def make_plans(setup: Setup, journal: Journal, pool: Pool, cache: Cache | None) -> dict[str, Plan]:
    """Protocol -> compiled chain; each protocol has its own steps over shared drivers."""
    return {protocol: Plan([make_step(section, journal, pool, cache, view) for section in sections], view, journal)
            for protocol, (view, sections) in setup.protocols.items()}


def open_drivers(setup: Setup, log: Log) -> None:
    for section in setup.sections:
        if not section.driver.blocking:
            open_driver(section.driver, log)
        elif isinstance(section.driver, Cautious) and (warning := section.driver.warning()):
            log.warning(warning)
    for user_section in setup.user_sections:
        if not user_section.driver.blocking:
            open_driver(user_section.driver, log)


def main(child: Child, prepared: Setup) -> int:
    view = prepared.protocols[""][0]
    log = Log(child.log_fd, buffered=True, debug=prepared.debug)
    loop = Loop()
    journal = Journal(log, view)
    cache = Cache(view.auth_cache_size, view.auth_cache_ttl, view.auth_cache_negative_ttl, time.time) \
        if view.auth_cache_size and view.auth_cache_ttl else None
    pool = Pool(loop, log, os.path.join(child.base_dir, "auth-worker"), view.auth_worker_max_count,
                prepared.fingerprint)
    open_drivers(prepared, log)
    plans = make_plans(prepared, journal, pool, cache)
    user_plans = {protocol: UserPlan(sections, journal, pool, cache) for protocol, sections in prepared.userdbs.items()}
    server = Server(loop, log, journal, plans, user_plans, child, pool, cache)
    if prepared.penalised:
        server.penalty = Penalty(loop, os.path.join(child.base_dir, PENALTY_SOCKET))
    if view.auth_policy_server_url:
        from mailproxy.auth.policy import WORKERS, Policy  # imported already, by setup in the master
        policy_pool = Pool(loop, log, os.path.join(child.base_dir, "auth-worker"), WORKERS, prepared.fingerprint)
        server.policy = Policy(loop, journal, policy_pool, view)
    _watch(child, loop, server, cache)
    server.listen(child.listeners)
    child.report(child.client_limit)
    gc.collect()
    gc.freeze()
    loop.run()
    server.shut_down()
    pool.close()
    log.flush()
    return 0


def _watch(child: Child, loop: Loop, server: Server, cache: Cache | None) -> None:
    """Signals and the master's life line."""
    def retire() -> None:
        if child.dead_fd >= 0:
            loop.unregister(child.dead_fd)
        server.stop_listening(child.listeners)
        if server.idle:
            loop.stop()

    def flush() -> None:
        server.log.info(f"SIGHUP received, {cache.flush() if cache is not None else 0} cache entries flushed")

    def statistics() -> None:
        for line in cache.statistics() if cache is not None else ():
            server.log.info(line)

    Signals(loop, {signal.SIGTERM: loop.stop, signal.SIGQUIT: retire, signal.SIGHUP: flush,
                   signal.SIGINT: lambda: loop.stop() if server.idle else None, signal.SIGUSR2: statistics})
    if child.dead_fd >= 0:
        loop.register(child.dead_fd, ERR | HUP, lambda _mask: retire())
