"""Start the demo, show what to try, wait for Ctrl-C, stop everything."""
from __future__ import annotations

import argparse
import contextlib
import imaplib
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from mailproxy.demo import backends, people, place, settings
from mailproxy.demo.place import HOST, DemoFailed
from mailproxy.demo.processes import Processes

#: Ports that are asked for first.
_IMAP, _IMAPS, _BACKEND = 10143, 10993, 10144
_OTHERS = {"pop3": 10110, "pop3s": 10995, "sieve": 14190, "submission": 10587, "submissions": 10465, "lmtp": 10024}
#: Between those of one backend.
_STEP = 10
#: Seconds between two looks at the processes.
_WATCH = 0.5


class _Stop(Exception):
    """A signal asked us to end."""


def _raise_stop(_signal: int, _frame: FrameType | None) -> None:
    raise _Stop


def _say(text: str) -> None:
    print(text, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mailproxy.demo", description=(
        "Runs a proxy with two backends and a few users on this machine until Ctrl-C."))
    parser.add_argument("--dir", help="directory of the demo (default: .demo of the checkout)")
    parser.add_argument("--imap-port", type=int, default=_IMAP, help=f"default {_IMAP}; another one if it is busy")
    parser.add_argument("--imaps-port", type=int, default=_IMAPS, help=f"default {_IMAPS}; another one if it is busy")
    parser.add_argument("--server", help="another server that takes -F -c FILE, for comparison (/usr/sbin/dovecot)")
    return parser.parse_args()


def _server(command: str | None) -> list[str]:
    """How the proxy is called: from the checkout, or as installed."""
    if command:
        return shlex.split(command)
    script = place.checkout() / "master.py"
    if script.exists():
        return [sys.executable, str(script)]
    installed = Path(sys.executable).parent / "mailproxy"
    if installed.exists():
        return [str(installed)]
    raise DemoFailed(f"{script} is missing: run the demo in a checkout of the project")


def prepare(arguments: argparse.Namespace, directory: Path) -> settings.Demo:
    """Ports and certificate."""
    try:
        from mailproxy.demo import certificate
    except ImportError:
        raise DemoFailed("the demo's certificate needs the Python package cryptography: run make venv") from None
    backends.require()
    taken = {name: {protocol: place.choose_port(_BACKEND + number + _STEP * index, f"{protocol} of {name}", _say)
                    for index, protocol in enumerate(backends.PROTOCOLS)}
             for number, name in enumerate(backends.NAMES)}
    crt, key = certificate.ensure(directory, time.time())
    wanted = {"imap": arguments.imap_port, "imaps": arguments.imaps_port, **_OTHERS}
    return settings.Demo(directory, {listener: place.choose_port(port, listener, _say)
                                     for listener, port in wanted.items()}, taken, crt, key)


def start(demo: settings.Demo, server: list[str], processes: Processes) -> None:
    """Everything, in the order in which it is needed; returns when a login works."""
    for name, ports in demo.backends.items():
        backends.start(processes, name, ports)
    for name, ports in demo.backends.items():
        backends.wait_for(processes, ports["imap"], f"backend {name}")
        backends.mark(name, ports["imap"])
    processes.start("proxy", [*server, "-F", "-c", str(settings.write(demo))])
    backends.wait_for(processes, demo.ports["imap"], "the proxy")
    for user, name in people.USERS.items():
        try:
            seen = backends.mailboxes(demo.ports["imap"], user, people.password_of(user))
        except (OSError, imaplib.IMAP4.error) as error:
            raise DemoFailed(f"{user} cannot log in through the proxy: {error}\n{_log_tail(demo)}") from None
        if backends.mailbox_of(name) not in seen:
            raise DemoFailed(f"{user} was not sent to backend {name}; the mailboxes are:\n{seen}")


def _log_tail(demo: settings.Demo) -> str:
    log = demo.directory / "log"
    return log.read_text(errors="replace")[-2000:] if log.exists() else ""


def commands(demo: settings.Demo) -> list[str]:
    """Shell lines that log in and list the mailboxes."""
    crt = shlex.quote(os.path.relpath(demo.certificate))
    secret = people.password_of
    at = {listener: f"{HOST}:{port}" for listener, port in demo.ports.items()}
    plain = """$(printf '\\0{0}\\0{1}' | base64)"""
    message = "Subject: hi\\r\\n\\r\\nHello\\r\\n.\\r\\nQUIT\\r\\n"
    master = f"carol{people.SEPARATOR}{people.MASTER}"
    return [
        f"curl -sS imap://{at['imap']}/ -u alice:{secret('alice')}",
        f"curl -sS --ssl-reqd --cacert {crt} imap://{at['imap']}/ -u bob:{secret('bob')}",
        f"curl -sS --cacert {crt} imaps://{at['imaps']}/ -u carol:{secret('carol')}",
        f"curl -sS --cacert {crt} imaps://{at['imaps']}/ -u '{master}:{secret(people.MASTER)}'",
        f"""printf 'a LOGIN dave {secret("dave")}\\r\\nb LIST "" "*"\\r\\nc LOGOUT\\r\\n' """
        f"| openssl s_client -quiet -CAfile {crt} -connect {at['imaps']}",
        f"""printf 'a LOGIN alice {secret("alice")}\\r\\nb LIST "" "*"\\r\\nc LOGOUT\\r\\n' """
        f"| openssl s_client -quiet -starttls imap -CAfile {crt} -connect {at['imap']}",
        f"curl -sS --ssl-reqd --cacert {crt} pop3://{at['pop3']}/1 -u alice:{secret('alice')}",
        f"curl -sS --cacert {crt} pop3s://{at['pop3s']}/1 -u dave:{secret('dave')}",
        f"""printf 'AUTHENTICATE "PLAIN" "%s"\\r\\nLISTSCRIPTS\\r\\nLOGOUT\\r\\n' """
        f'"{plain.format("bob", secret("bob"))}" '
        f"| openssl s_client -quiet -starttls sieve -CAfile {crt} -connect {at['sieve']}",
        "printf 'EHLO demo\\r\\nAUTH PLAIN %s\\r\\nMAIL FROM:<demo@localhost>\\r\\nRCPT TO:<x@localhost>\\r\\n"
        f"DATA\\r\\n{message}' "
        f'"{plain.format("carol", secret("carol"))}" '
        f"| openssl s_client -quiet -starttls smtp -CAfile {crt} -connect {at['submission']}",
        f"printf 'LHLO demo\\r\\nMAIL FROM:<demo@localhost>\\r\\nRCPT TO:<dave>\\r\\nDATA\\r\\n{message}' "
        f"| openssl s_client -quiet -starttls lmtp -CAfile {crt} -connect {at['lmtp']}",
    ]


def show(demo: settings.Demo) -> None:
    people_of = {name: [user for user, at in people.USERS.items() if at == name] for name in demo.backends}
    listeners = ", ".join(f"{listener} {port}" for listener, port in demo.ports.items())
    _say(f"\nThe proxy answers on {HOST}: {listeners}; those without s in the end with STARTTLS.")
    for name, ports in demo.backends.items():
        _say(f"Backend {name} (imap {HOST}:{ports['imap']}, mailbox {backends.mailbox_of(name)}): "
             f"{', '.join(people_of[name])}.")
    _say("Only IMAP has mailboxes here; what the backends say in other protocols is just enough to see where one is.")
    _say(f"Passwords: the name with -demo behind it.  Master user: carol{people.SEPARATOR}{people.MASTER}, "
         f"password {people.password_of(people.MASTER)}.")
    _say(f"Configuration {demo.directory}/mailproxy.conf, log {demo.directory}/log.\n\nTry, in another terminal:\n")
    for line in commands(demo):
        _say(f"  {line}\n")
    _say("Ctrl-C stops everything.")


def _run(arguments: argparse.Namespace) -> None:
    directory = place.choose_directory(arguments.dir)
    held = place.lock(directory)
    processes = Processes(directory)
    try:
        demo = prepare(arguments, directory)
        server = _server(arguments.server)
        _say("Starting ...")
        start(demo, server, processes)
        show(demo)
        while True:
            time.sleep(_WATCH)
            processes.check()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)       # stopping is not interrupted by an impatient second Ctrl-C
        processes.stop()
        with contextlib.suppress(OSError):
            os.close(held)


def main() -> int:
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise_stop)
    try:
        _run(arguments)
    except _Stop:
        _say("\nStopped.")
    except DemoFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
