"""The harness itself: what its little language means, what is normalised and what is not."""
from __future__ import annotations

import base64
import socket
import time
from pathlib import Path

import pytest

from .certs import Certs
from .conversation import Conversation, Ended
from .harness import Result, wanted
from .normalise import Normaliser
from .scenario import Scenario
from .script import Step, expression, fill, parse, parse_connections

NAMES = {"u": "bob.x", "port": "12345"}


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return Certs(tmp_path_factory.mktemp("tls"))


def test_parse_skips_comments_and_keeps_spaces_in_texts() -> None:
    assert parse("\n  # nothing\n  > a  b\n  eof\n") == (Step(">", "a  b"), Step("eof"))
    assert [len(steps) for steps in parse_connections("eof\n ---\n> x\nclose")] == [1, 2]


def test_fill() -> None:
    assert fill(r"$u:$port \x00\xff\r\n\\ ${ab*3} $b64(\0$u) $other", NAMES) == \
        "bob.x:12345 \0\xff\r\n\\ ababab " + base64.b64encode(b"\0bob.x").decode() + " $other"


def test_names_are_literal_in_expressions() -> None:
    assert expression("^$u$", NAMES).search("bob.x")
    assert not expression("^$u$", NAMES).search("bobyx")


def _session(port: int, address: str, when: float) -> str:
    stamp = int(when * 1_000_000) & 0xFFFFFFFFFFFF
    return base64.b64encode(stamp.to_bytes(6, "little") + port.to_bytes(2, "little")
                            + socket.inet_aton(address)).decode()


def test_normaliser_replaces_sessions_of_this_run_and_known_ports_only() -> None:
    normaliser = Normaliser("bob", {20001: "port"}, [40001])
    ours = _session(40001, "127.0.0.1", time.time())
    forwarded = _session(4321, "10.1.2.3", time.time())
    old = _session(40001, "127.0.0.1", time.time() - 1_000_000)
    line = f'"{ours}" "{forwarded}" "{old}" 127.0.0.1:20001 "40001" 20002 in=40001x'
    assert normaliser.line(line) == (f'"SESSION" "SESSION(4321 10.1.2.3)" "{old}" 127.0.0.1:$port "$client" '
                                     "20002 in=40001x")


def test_log_lines_belong_to_a_scenario_by_user_or_by_session() -> None:
    normaliser = Normaliser("bob", {}, [40001])
    session = _session(40001, "127.0.0.1", time.time())
    log = (f"Nov 22 10:00:00 imap-login: Info: Disconnected (waited 3 secs): user=<>, session=<{session}>\n"
           "Nov 22 10:00:00 imap-login: Error: proxy(bob): host not given: user=<bob>\n"
           "Nov 22 10:00:00 imap-login: Debug: proxy(bob): noise: user=<bob>\n"
           "Nov 22 10:00:00 imap-login: Info: Disconnected: user=<bob2>\n"
           "Nov 22 10:00:00 auth: Info: user=<bob>\n")
    assert normaliser.log(log) == ["Info: Disconnected (waited N secs): user=<>, session=<SESSION>",
                                   "Error: proxy(bob): host not given: user=<bob>"]


def test_transcript_does_not_depend_on_segments(certs: Certs) -> None:
    transcripts = []
    for chunks in ([b"* OK hi\r\na OK done\r\nrest"], [bytes([byte]) for byte in b"* OK hi\r\na OK done\r\nrest"]):
        ours, peer = socket.socketpair()
        for chunk in chunks:
            peer.sendall(chunk)
        peer.close()
        conversation = Conversation(ours, NAMES, certs, server=False)
        for step in parse("< ^a\neof"):
            conversation.step(step)
        conversation.finish()
        transcripts.append(conversation.lines)
    assert transcripts[0] == transcripts[1] == ["S: * OK hi", "S: a OK done", "S: rest<no newline>", "<EOF>"]


def test_a_missing_answer_is_a_line_of_the_transcript(certs: Certs) -> None:
    ours, peer = socket.socketpair()
    peer.close()
    conversation = Conversation(ours, NAMES, certs, server=False)
    with pytest.raises(Ended):
        conversation.step(Step("<", "^a"))
    conversation.finish()
    assert conversation.lines == ["<EOF> while waiting for '^a'"]


def test_tls_between_the_two_ends(certs: Certs, tmp_path: Path) -> None:
    assert (certs.path / "ca.pem").exists()
    context = certs.client_context("client")
    seen: list[str] = []
    server = certs.server_context("server", seen)
    assert context.get_ca_certs()
    assert server.get_ca_certs()


def test_wanted_applies_replacements_across_lines() -> None:
    oracle = Result(["S: one"], [["B: hi"], ["B: ho"]], ["Info: in=5"])
    scenario = Scenario("x", "", substitute=(("#1\n", "#1\n-- from 127.0.0.8\n"), ("in=5", "in=6")), expected_client="""
        S: two
    """)
    assert wanted(scenario, oracle) == (["S: two"], ["#1", "-- from 127.0.0.8", "B: hi", "#2", "B: ho"], ["Info: in=6"])
