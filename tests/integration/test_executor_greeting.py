"""What keepers say while a server is being greeted comes with the greeting, in one piece or in several."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from orchestrator_app.executors import supervisor
from orchestrator_app.executors.link import Link

RUNNING = b'[["a", "1"], ["b", "2"]]'


def connected(state: Path, *pieces: bytes) -> set[tuple[str, int]]:
    """What a server takes to be running when its supervisor answers with these pieces."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(state / supervisor.SOCKET))
        listener.listen()

        def answer() -> None:
            sock = listener.accept()[0]
            with sock:
                while not sock.recv(1 << 16).endswith(b"\n"):
                    pass
                for piece in pieces:
                    sock.sendall(piece)
                sock.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        link = Link(state)
        try:
            return link.connect()
        finally:
            link.close()
            thread.join()


@pytest.mark.parametrize("behind", [b"", b"said\tb\t2\n", b"said\tb"], ids=["nothing", "a-line", "half-a-line"])
def test_f16_a_server_hears_its_greeting_whatever_keepers_say_behind_it(tmp_path: Path, behind: bytes) -> None:
    hello = b"hello\t%d\t%d\t%s\n" % (supervisor.PROTOCOL, os.getpid(), RUNNING)

    assert connected(tmp_path, hello + behind) == {("a", 1), ("b", 2)}


def test_f16_a_server_hears_its_greeting_whatever_keepers_say_before_it(tmp_path: Path) -> None:
    hello = b"hello\t%d\t%d\t%s\n" % (supervisor.PROTOCOL, os.getpid(), RUNNING)

    assert connected(tmp_path, b'exit\tc\t1\t1\t{"code": 0}\nhel', hello[3:]) == {("a", 1), ("b", 2)}


def test_f16_who_ends_while_a_server_is_greeted_is_not_taken_to_be_running(tmp_path: Path) -> None:
    hello = b"hello\t%d\t%d\t%s\n" % (supervisor.PROTOCOL, os.getpid(), RUNNING)

    assert connected(tmp_path, hello + b'exit\ta\t1\t1\t{"code": 0}\n') == {("b", 2)}
