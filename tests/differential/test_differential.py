"""Foreign configurations are read as Dovecot reads them: the same dump and warnings, or the same error."""
from __future__ import annotations

from pathlib import Path

import pytest

from . import sources
from .compare import Outcome, difference
from .harness import run

#: Fewer than these found: the packages are not installed or changed their layout.
LEAST = {"packaged": 35, "wiki": 500, "proxying": 5, "broken": 60}


@pytest.mark.parametrize("name", LEAST)
def test_same_as_doveconf(name: str, tmp_path: Path) -> None:
    result = run(sources.LISTS[name], tmp_path)
    wrong = [(case, *lines) for case, lines, reason in result.differences if not reason]
    assert not wrong, "\n".join("\n    ".join(lines) for lines in wrong)
    assert result.total >= LEAST[name]


def test_same_for_the_corpus(tmp_path: Path) -> None:
    """It lies beside a checkout, or not at all: it asks not to be copied."""
    result = run(sources.LISTS["corpus"], tmp_path)
    wrong = [(case, *lines) for case, lines, reason in result.differences if not reason]
    assert not wrong, "\n".join("\n    ".join(lines) for lines in wrong)
    assert result.total >= 50 or not sources.CORPUS.is_dir()


def _outcome(dump: str = "", errors: str = "", warnings: str = "") -> Outcome:
    return Outcome(dump.split(), errors.split(), frozenset(warnings.split()))


@pytest.mark.parametrize(("theirs", "own", "equal"), [
    (_outcome("a b"), _outcome("a b"), True),
    (_outcome("a b"), _outcome("b a"), False),
    (_outcome("a", warnings="w"), _outcome("a"), False),
    (_outcome("a"), _outcome("a", warnings="w"), False),
    (_outcome(errors="e"), _outcome(errors="d e"), True),
    (_outcome(errors="e"), _outcome(errors="d"), False),
    (_outcome(errors="e"), _outcome("a"), False),
    (_outcome("a"), _outcome(errors="e"), False)])
def test_the_comparison_compares(theirs: Outcome, own: Outcome, equal: bool) -> None:
    assert (not difference(theirs, own)) is equal


def test_blocks_of_a_page() -> None:
    page = ("Text\n---%<----\nssl = no\n---%<----\nmore = text\n  ---%<---\nnot one: of them\n---%<---\n"
            "---%<-\nservice a {\n}\n")
    assert list(sources.blocks(page)) == ["ssl = no\n"]
    assert list(sources.blocks(page + "---%<---\n")) == ["ssl = no\n", "service a {\n}\n"]
