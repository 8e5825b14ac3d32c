"""A worker and what is around it, ended after the test."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.component.login.place import Auth, Backend, Client, Place, yes


class Scene:
    """`worker(text, client_limit=…)` starts it; `auth()` its auth server; `client()` connects."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.backend = Backend()
        self._open: list[Any] = []
        self.place: Place

    def worker(self, text: str = "", **options: Any) -> Place:
        self.place = Place(self.directory / "login", text, **options)
        return self.place

    def auth(self, answer: Callable[..., None] | None = None, **options: Any) -> Auth:
        auth = Auth(self.directory / "login", answer or yes(self.backend.port), **options)
        self._open.append(auth)
        return auth

    def client(self) -> Client:
        client = Client(self.place.port)
        self._open.append(client)
        return client

    def greeted(self) -> Client:
        client = self.client()
        line = client.line()
        assert line.startswith(b"* OK [CAPABILITY "), line
        return client

    def close(self) -> None:
        try:
            if hasattr(self, "place"):
                self.place.stop()
        finally:
            for each in self._open:
                each.close()
            self.backend.close()


@pytest.fixture
def scene(short_dir: Path) -> Iterator[Scene]:
    made = Scene(short_dir)
    yield made
    made.close()
