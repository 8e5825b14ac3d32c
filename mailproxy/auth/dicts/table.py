"""Which stores there are: `driver:settings` -> Store."""
from __future__ import annotations

from collections.abc import Callable

from mailproxy.auth.dicts.file import File
from mailproxy.auth.dicts.fs import Files
from mailproxy.auth.dicts.proxy import Proxy
from mailproxy.auth.dicts.redis import Redis
from mailproxy.auth.dicts.store import Store
from mailproxy.auth.passdb.driver import ArgsInvalid

STORES: dict[str, Callable[[str], Store]] = {"redis": Redis, "fs": Files, "file": File, "proxy": Proxy}


def make(uri: str) -> Store:
    """ArgsInvalid, DriverMissing."""
    name, colon, settings = uri.partition(":")
    maker = STORES.get(name)
    if not colon:
        raise ArgsInvalid(f"dict: Dictionary URI is missing ':': {uri}")
    if maker is None:
        raise ArgsInvalid(f"dict: Unknown dict module: {name} (known: {', '.join(STORES)})")
    return maker(settings)
