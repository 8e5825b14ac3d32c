"""Loading configuration texts."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.errors import ConfigInvalid


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., config.Config]:
    """`load(text, {"other.conf": text})`: write the files and load the first."""

    def loader(text: str | bytes, others: dict[str, str] | None = None) -> config.Config:
        for name, content in (others or {}).items():
            (tmp_path / name).write_text(content)
        path = tmp_path / "main.conf"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return config.load(str(path))

    return loader


@pytest.fixture
def refuse(load: Callable[..., config.Config], tmp_path: Path) -> Callable[..., list[str]]:
    """The problems of a configuration that must not load, without the directory of its files."""

    def refuser(text: str | bytes, others: dict[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigInvalid) as caught:
            load(text, others)
        return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return refuser
