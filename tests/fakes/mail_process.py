#!/usr/bin/python3
"""A mail process for tests: takes one client over and does what the name of the auth request's session tells.

It does not ask auth who the user is: the login's own line in the log, read back from there, is not to be had; so the
record's data decide.  Users: die (no answer), half (part of one), refuse (a refusal, and words for the client), echo
(shows the data that came along).
"""
import os
import socket
import struct
import sys


def user_of(record: bytes) -> str:
    """Asks auth, as mail processes do."""
    _, _, request, pid = struct.unpack_from("=IiII", record)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("auth-master")
        sock.sendall(f"VERSION\t1\t1\nREQUEST\t1\t{pid}\t{request}\t{record[16:32].hex()}\n".encode())
        answer = b""
        while b"\nUSER\t" not in answer or not answer.endswith(b"\n"):
            answer += sock.recv(4096)
    return answer.split(b"\nUSER\t")[1].split(b"\t")[1].decode().strip()


def main() -> None:
    generation = int(os.environ["GENERATION"])
    os.write(5, struct.pack("=iII", os.getpid(), generation, 1))
    listener = socket.socket(fileno=7)
    listener.setblocking(True)
    connection, _ = listener.accept()
    os.write(5, struct.pack("=iII", os.getpid(), generation, 0))
    record, fds, _, _ = socket.recv_fds(connection, 65536, 4)
    assert os.fstat(fds[0]).st_ino == struct.unpack_from("=Q", record, 88)[0]
    client = socket.socket(fileno=fds[0])
    user = user_of(record)
    if user == "die":
        sys.exit(0)
    if user == "half":
        connection.send(b"abc")
        sys.exit(0)
    connection.send(struct.pack("=IIi", 1, int(user == "refuse"), os.getpid()))
    client.sendall(b"refused\r\n" if user == "refuse" else record[96:])


main()
