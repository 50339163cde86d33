"""The clients: threads that work on a project over HTTP while its servers die, and keep a journal of the replies.

Each request carries a token that the log must show where it took effect. The journal has a line before each request
and one after it: `ok` with the `seq` it was told, `refused`, or `unknown` (the server died in between). What is unknown
is asked for again with the same token and key, as a careful program would: it must not happen twice.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from typing import Any

from .stage import Stage

PAUSE = 0.05
NOBODY = (OSError, http.client.HTTPException, ValueError)


class Unreachable(Exception):
    """No server answers; nothing was sent."""


class Operator(threading.Thread):
    """One client. `crowd` is shared by all of them."""

    def __init__(self, stage: Stage, name: str, seed: int, crowd: Crowd) -> None:
        super().__init__(name=name, daemon=True)
        self.stage, self.crowd = stage, crowd
        self.chance = random.Random(f"{seed}/{name}")
        self.token = (stage.state / "token").read_text().strip() if (stage.state / "token").exists() else ""
        self.journal = open(stage.told / f"{name}.jsonl", "ab", buffering=0)  # noqa: SIM115  closed with the thread
        self.numbers = 0
        self.again: list[tuple[str, str, str, dict[str, Any], int | None, str]] = []

    def run(self) -> None:
        while not self.crowd.over.is_set():
            time.sleep(self.chance.random() * PAUSE)
            try:
                if self.again and self.chance.random() < 0.7:
                    self.send(*self.again[0])
                    self.again.pop(0)
                else:
                    self.do_something()
            except Unreachable:
                time.sleep(0.05)
        self.journal.close()

    # -- what it does

    def do_something(self) -> None:
        items = self.ask("GET", "/attention")["items"]
        if items and self.chance.random() < (1.0 if self.crowd.settling.is_set() else 0.6):
            self.settle(self.chance.choice(items))
            return
        units = self.ask("GET", "/units?limit=1000")["units"]
        self.crowd.seen = units
        if self.crowd.settling.is_set():
            self.help_along(units)
        elif self.crowd.may_submit() and self.chance.random() < 0.5:
            self.submit(units)
        elif units:
            self.meddle(self.chance.choice(units))

    def submit(self, units: list[dict[str, Any]]) -> None:
        added = []
        for _ in range(self.chance.randint(1, 3)):
            brief = self.chance.random() < 0.12  # its agents may hang, and are given little time
            name = f"{self.name}-{self.new_number()}{'-brief' * brief}"
            blockers = [unit["name"] for unit in units if unit["status"] != "CANCELLED"]
            after = self.chance.sample(blockers, 1) if blockers and self.chance.random() < 0.25 else []
            added.append({"name": name, "prompt": f"do {name}", "after": after, **({"timeout": 2.5} if brief else {})})
        self.crowd.submitted += len(added)
        self.send("POST", "/units", added[0]["name"], {"units": added}, None)

    def settle(self, item: dict[str, Any]) -> None:
        """Decide on an attention item."""
        unit, calm = item["unit"], self.crowd.settling.is_set()
        number, token = item["id"], self.new_token()
        options = item.get("detail", {}).get("options") or item.get("options") or ()
        if item["kind"] == "question" and not calm and self.chance.random() < 0.15:
            what = self.chance.choice(("accept", "cancel", "pause"))
            self.send("POST", f"/units/{unit}/{what}", token, {"reason": token}, self.version_of(unit))
        elif item["kind"] == "question":
            self.send("POST", f"/units/{unit}/answer", token, {"text": token, "item": number}, None)
        elif item["kind"] == "approval" and not calm and self.chance.random() < 0.3:
            self.send("POST", f"/units/{unit}/reject", token, {"feedback": token, "item": number}, None)
        elif item["kind"] == "approval":
            self.send("POST", f"/units/{unit}/approve", "", {"item": number}, None)
        elif item["kind"] == "blocked":
            self.send("PATCH", f"/units/{unit}", token, {"after": [], "prompt": token}, self.version_of(unit))
        elif "accept" in options and not calm and self.chance.random() < 0.15:
            self.send("POST", f"/units/{unit}/accept", token, {"reason": token, "item": number}, None)
        else:
            self.send("POST", f"/units/{unit}/retry", token, {"feedback": token, "item": number}, None)

    def help_along(self, units: list[dict[str, Any]]) -> None:
        """When all is to end: whoever was held goes on."""
        for unit in units:
            if unit["status"] == "PAUSED":
                token = self.new_token()
                self.send("POST", f"/units/{unit['name']}/resume", token, {"reason": token}, unit["version"])
                return

    def meddle(self, unit: dict[str, Any]) -> None:
        name, version, token = unit["name"], unit["version"], self.new_token()
        lot = self.chance.random()
        if unit["status"] == "PAUSED":
            self.send("POST", f"/units/{name}/resume", token, {"reason": token}, version)
        elif unit["status"] == "CANCELLED":
            if lot < 0.1:
                self.send("POST", f"/units/{name}/reopen", token, {"reason": token}, version)
        elif unit["status"] == "DONE" and lot < 0.9:
            return
        elif lot < 0.08:
            self.send("POST", f"/units/{name}/pause", token, {"reason": token}, version)
        elif lot < 0.12:
            self.send("POST", f"/units/{name}/restart", token, {"reason": token}, version)
        elif lot < 0.15:
            self.send("POST", f"/units/{name}/cancel", token, {"reason": token}, version)
        elif lot < 0.25:
            self.send(
                "PATCH", f"/units/{name}", token, {"prompt": token, "priority": self.chance.randrange(9)}, version
            )
        elif lot < 0.32:
            self.send("POST", f"/units/{name}/comment", token, {"text": token}, version)
        elif lot < 0.35:
            self.send("POST", f"/units/{name}/cancel", token, {"reason": token}, max(1, version - 1))  # out of date

    def version_of(self, unit: str) -> int:
        return self.ask("GET", f"/units/{unit}")["version"]

    # -- how it speaks

    def new_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def new_token(self) -> str:
        return f"token-{self.name}-{self.new_number()}-"

    def send(
        self, method: str, path: str, token: str, body: dict[str, Any], version: int | None, key: str = ""
    ) -> None:
        """One request that changes something, with its lines in the journal. `key`: that of the first try."""
        number, repeated = self.new_number(), bool(key)
        key = key or f"{self.name}-{number}"
        connection, headers = self.connect()
        headers["Idempotency-Key"] = key
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        about = {"id": number, "method": method, "path": path, "token": token, "body": body, "version": version}
        self.note({**about, "repeated": repeated, "at": time.time()})
        try:
            status, answer = self.exchange(connection, method, path, headers, body)
        except NOBODY as error:
            self.note({"id": number, "result": "unknown", "why": repr(error)[:200]})
            self.again.append((method, path, token, body, version, key))
            return
        if status < 300:
            self.note({"id": number, "result": "ok", "seq": answer["seq"], "answer": answer})
        elif status < 500:
            self.note({"id": number, "result": "refused", "status": status, "why": str(answer.get("detail"))[:300]})
        else:
            self.note({"id": number, "result": "unknown", "status": status, "why": str(answer.get("detail"))[:300]})
            self.again.append((method, path, token, body, version, key))

    def ask(self, method: str, path: str) -> Any:
        connection, headers = self.connect()
        try:
            status, answer = self.exchange(connection, method, path, headers, None)
        except NOBODY as error:
            raise Unreachable from error
        if status != 200:
            raise Unreachable
        return answer

    def connect(self) -> tuple[http.client.HTTPConnection, dict[str, str]]:
        try:
            about = json.loads((self.stage.state / "server.json").read_text())
            token = (self.stage.state / "token").read_text().strip()
            connection = http.client.HTTPConnection(about["host"], about["port"], timeout=40)
            connection.connect()
        except (OSError, ValueError, KeyError):
            raise Unreachable from None
        headers = {"Authorization": f"Bearer {token}", "X-Orch-Operator": self.name}
        return connection, headers

    @staticmethod
    def exchange(
        connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str], body: Any
    ) -> tuple[int, Any]:
        try:
            sent = None if body is None else json.dumps(body).encode()
            if sent is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, f"/api/v1{path}", sent, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def note(self, line: dict[str, Any]) -> None:
        self.journal.write(json.dumps(line).encode() + b"\n")
        os.fsync(self.journal.fileno())


class Follower(Operator):
    """One that changes nothing: it keeps a cursor over the feed through all deaths, and a file of all it was shown."""

    def run(self) -> None:
        while not self.crowd.over.is_set():
            try:
                self.follow(wait=2)
            except Unreachable:
                time.sleep(0.02)
        self.journal.close()

    def follow(self, wait: float) -> None:
        answer = self.ask("GET", f"/feed?since={self.crowd.followed}&wait={wait}&limit=500")
        for row in answer["records"]:
            self.note_shown(row)
        self.crowd.followed = answer["seq"]

    def note_shown(self, row: dict[str, Any]) -> None:
        words = [row["table"], row["seq"], row.get("unit"), row.get("trigger") or row.get("type")]
        self.journal.write(json.dumps(words).encode() + b"\n")


class Crowd:
    """All clients of a campaign. They submit as long as fewer units than `most` are there, and `open` at once."""

    def __init__(self, stage: Stage, seed: int, most: int, number: int = 3) -> None:
        self.most, self.open = most, 12
        self.submitted = 0
        self.seen: list[dict[str, Any]] = []
        self.followed = 0
        self.settling, self.over = threading.Event(), threading.Event()
        self.operators = [Operator(stage, f"client{index}", seed, self) for index in range(number)]
        self.follower = Follower(stage, "follower", seed, self)

    def start(self) -> None:
        for one in (*self.operators, self.follower):
            one.start()

    def may_submit(self) -> bool:
        ended = sum(unit["status"] in ("DONE", "CANCELLED") for unit in self.seen)
        return self.submitted < self.most and self.submitted - ended < self.open

    def end(self) -> None:
        self.over.set()
        for one in (*self.operators, self.follower):
            one.join(60)
