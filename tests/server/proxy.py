"""A bad line between a client and whatever server a project has just now."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from pathlib import Path

from orchestrator_app.claim import server_info


class BadLine:
    """Listens on `port`. While `bad`, each connection is cut after some bytes of the server, in the middle of a message
    as likely as not, and every third by a reset."""

    def __init__(self, root: Path, seed: int) -> None:
        self._state, self._chance = root / ".orchestrator", random.Random(seed)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.bad = False
        self.cuts = 0
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()
        for one in tuple(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._connect, args=[client], daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        info = server_info(self._state)
        with client, suppress(OSError):
            self._open.add(client)
            if info is None or "port" not in info:
                return
            with socket.create_connection(("127.0.0.1", info["port"]), timeout=60) as server:
                self._open.add(server)
                back = threading.Thread(target=self._back, args=[server, client], daemon=True)
                head = client.recv(65536)
                host = f"Host: 127.0.0.1:{info['port']}\r\n".encode()
                server.sendall(head.replace(f"Host: 127.0.0.1:{self.port}\r\n".encode(), host))
                back.start()
                while data := client.recv(65536):
                    server.sendall(data)
                with suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                back.join(60)
                self._open.discard(server)
        self._open.discard(client)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        left = self._chance.choice([300, 2_000, 20_000, 100_000])
        with suppress(OSError):
            while data := server.recv(8192):
                if self.bad and len(data) > left:
                    client.sendall(data[:left])
                    self.cuts += 1
                    if self.cuts % 3 == 0:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    break
                left -= len(data) if self.bad else 0
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
