"""A role that says who it is and echoes lines; some words make it misbehave.  It keeps a login worker's contract."""
from __future__ import annotations

import os
import selectors
import signal
import socket
from typing import Any

from mailproxy.errors import ConfigInvalid, Problem
from mailproxy.ipc.contract import UNLIMITED, Child
from mailproxy.log.pipe import Log


def prepare(conf: Any, service: Any) -> dict[str, str]:
    if service.name == "unpreparable":
        raise ConfigInvalid([Problem("", 0, "service(unpreparable): there is no key")])
    return {"greeting": conf.view().core.instance_name}


class Worker:
    def __init__(self, child: Child, prepared: dict[str, str]) -> None:
        self.child = child
        self.greeting = prepared["greeting"]
        self.log = Log(child.log_fd)
        self.selector = selectors.DefaultSelector()
        self.clients: set[socket.socket] = set()
        self.left = child.service_count or UNLIMITED
        self.retired = False
        self.listening = False
        self.last = -1
        self.woken, waker = socket.socketpair()
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())
        self.waker = waker
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
            signal.signal(number, lambda signum, frame: None)

    def available(self) -> int:
        return 0 if self.retired else min(self.child.client_limit - len(self.clients), self.left)

    def update(self) -> None:
        room = self.available()
        if room != self.last:
            self.last = room
            self.child.report(room)
        if (room > 0) != self.listening:
            self.listening = room > 0
            for listener in self.child.listeners:
                if self.listening:
                    self.selector.register(listener.socket, selectors.EVENT_READ, "accept")
                else:
                    self.selector.unregister(listener.socket)

    def run(self) -> int:
        # epoll tells about the other end of this pipe whatever is asked for
        self.selector.register(self.child.dead_fd, selectors.EVENT_READ, "dead")
        self.selector.register(self.woken, selectors.EVENT_READ, "signal")
        self.update()
        while self.clients or (self.left and not self.retired):
            for key, _ in self.selector.select():
                if key.data == "accept":
                    self.accept(key.fileobj)
                elif key.data == "dead":
                    self.retire()
                elif key.data == "signal":
                    if self.signalled(self.woken.recv(64)):
                        return 0
                else:
                    self.serve(key.fileobj)
            self.update()
        return 0

    def retire(self) -> None:
        self.retired = True
        self.selector.unregister(self.child.dead_fd)
        self.update()
        for listener in self.child.listeners:
            listener.socket.close()

    def signalled(self, numbers: bytes) -> bool:
        if signal.SIGUSR1 in numbers and self.child.notify_fd >= 0:
            self.log.info(f"full={os.lseek(self.child.notify_fd, 0, os.SEEK_CUR)}")
        return signal.SIGTERM in numbers or (signal.SIGINT in numbers and not self.clients)

    def accept(self, listener: Any) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        self.left -= 1
        self.clients.add(client)
        self.selector.register(client, selectors.EVENT_READ, "client")
        client.sendall(f"{self.greeting} {os.getpid()}\n".encode())

    def serve(self, client: Any) -> None:
        try:
            word = client.recv(4096).decode().strip()
        except ConnectionError:
            word = ""
        if word.startswith("exit"):
            os._exit(int(word[4:]))
        if word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "fatal":
            self.log.fatal("my last words")
            os._exit(89)
        if word == "raise":
            raise ValueError("secret")
        if word == "print":
            os.write(2, b"library speaking\n")
        if word == "whoami":
            where = ",".join(sorted(os.listdir(".")))
            fds = len([fd for fd in range(200) if is_open(fd)])
            client.sendall(f"{os.getuid()} {os.getgid()} {os.getcwd()} {fds} {where}\n".encode())
        elif word:
            client.sendall(f"{word}\n".encode())
        else:
            self.selector.unregister(client)
            client.close()
            self.clients.discard(client)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def main(child: Child, prepared: Any) -> int:
    return Worker(child, prepared).run()
