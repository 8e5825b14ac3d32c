"""Where the configurations of the comparison come from: lists of cases, each a main file on disk.

What Debian installs (the pristine tree of its packages, the wiki pages) is read from there at run time, the corpus of
foreign configurations from a directory beside the checkout: neither is part of this repository.
"""
from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .broken import BROKEN, FILES
from .templates import SETTINGS, render

ROOT = Path(__file__).resolve().parent.parent.parent
#: Configurations of other projects; named with --corpus or the environment.
CORPUS = Path(os.environ.get("MAILPROXY_CORPUS") or ROOT.parent / "shared" / "corpus" / "dovecot-conf")
PACKAGED = Path("/usr/share/dovecot")
WIKI = Path("/usr/share/doc/dovecot-core/wiki")
#: The page about proxying has a list of its own.
PROXY_PAGE = "PasswordDatabase.ExtraFields.Proxy.txt"

_FENCE = re.compile(r" *---%<-+\s*\Z")
#: A block is a configuration when one of its lines could be a line of one.
_LIKELY = re.compile(r"\s*(?:[a-z][a-z0-9_]*\s*=|[a-z_]+(?: \S+)?\s*\{|!include)")


class Case(NamedTuple):
    """One configuration.  `path`: its main file."""

    name: str
    path: Path


def _write(directory: Path, name: str, text: str) -> Case:
    path = directory / f"{re.sub('[^A-Za-z0-9.-]+', '_', name)}.conf"
    path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    return Case(name, path)


def corpus(directory: Path) -> Iterator[Case]:
    """Each file as it is, on its own; templates also with values in them."""
    for path in sorted(CORPUS.rglob("*")):
        if not path.is_file() or path.suffix == ".md":
            continue
        name = str(path.relative_to(CORPUS))
        yield Case(name, path)
        text = path.read_text()
        if "{{" in text or "{%" in text:
            for label, values in SETTINGS:
                yield _write(directory, f"{name} {label}", render(text, values))


def packaged(directory: Path) -> Iterator[Case]:
    """The files that Debian installs into /etc/dovecot, as a tree and one by one."""
    for path in sorted([*PACKAGED.glob("*.conf"), *PACKAGED.glob("*.ext"), *PACKAGED.glob("conf.d/*"),
                        *PACKAGED.glob("protocols.d/*")]):
        yield Case(str(path.relative_to(PACKAGED)), path)


def blocks(text: str) -> Iterator[str]:
    """The parts of a page between cutting lines that look like a configuration."""
    inside: list[str] | None = None
    for line in text.splitlines(keepends=True):
        if not _FENCE.match(line):
            if inside is not None:
                inside.append(line)
        elif inside is None:
            inside = []
        else:
            if any(map(_LIKELY.match, inside)):
                yield "".join(inside)
            inside = None


def _page(path: Path, directory: Path) -> Iterator[Case]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        text = str(file.read())
    title = path.name.removesuffix(".gz").removesuffix(".txt")
    for number, block in enumerate(blocks(text), 1):
        yield _write(directory, f"{title} {number}", block)


def wiki(directory: Path) -> Iterator[Case]:
    """Every block of every page but one."""
    for path in sorted(WIKI.glob("*.txt*")):
        if path.name.removesuffix(".gz") != PROXY_PAGE:
            yield from _page(path, directory)


def proxying(directory: Path) -> Iterator[Case]:
    """The examples of the page about proxying."""
    for path in WIKI.glob(f"{PROXY_PAGE}*"):
        yield from _page(path, directory)


def broken(directory: Path) -> Iterator[Case]:
    """For each way of being wrong one, and some of more than one."""
    for name, text in FILES.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    for name, text in BROKEN.items():
        yield _write(directory, name, text)


LISTS: dict[str, Callable[[Path], Iterator[Case]]] = {
    "corpus": corpus, "packaged": packaged, "wiki": wiki, "proxying": proxying, "broken": broken}
