"""What is there after a campaign, read without the product's code: the log by plain DuckDB on a copy, the journals of
the clients, the marks of the agents, the run directories."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from .stage import Stage

TABLES = ("transition", "event", "attention_change", "verdict", "usage", "session")
Row = dict[str, Any]
Key = tuple[str, int]


@dataclass
class Evidence:
    """All of it. `stories`: the transitions of each unit; `exits`: exit.json of each attempt that has one."""

    stage: Stage
    #: The units as the last server showed them.
    shown: list[Row]
    #: Attempts whose keeper was killed.
    orphaned: set[Key]
    #: From when to when each server answered.
    served: list[tuple[float, float]]
    rows: dict[str, list[Row]] = field(default_factory=dict)
    stories: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    moves: set[tuple[str, str, str]] = field(default_factory=set)
    requests: list[Row] = field(default_factory=list)
    #: What the follower was shown: table, seq, unit, trigger or type.
    followed: list[list[Any]] = field(default_factory=list)
    marks: dict[str, list[Row]] = field(default_factory=dict)
    exits: dict[Key, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.read_log()
        self.read_journals()
        self.marks = {path.stem: self.stage.marks_of(path.stem) for path in self.stage.marks.glob("*.jsonl")}
        for path in self.stage.state.glob("runs/*/*/exit.json"):
            self.exits[path.parent.parent.name, int(path.parent.name)] = json.loads(path.read_text())

    def read_log(self) -> None:
        copy = self.stage.folder / "copy.duckdb"
        for end in ("", ".wal"):
            source = self.stage.state / f"orchestrator.duckdb{end}"
            if source.exists():
                shutil.copyfile(source, f"{copy}{end}")
        connection = duckdb.connect(str(copy))
        for table in TABLES:
            result = connection.execute(f'SELECT * FROM "{table}" ORDER BY seq')
            names = [column[0] for column in result.description]
            self.rows[table] = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        self.moves = set(connection.execute("SELECT from_status, trigger, to_status FROM rule").fetchall())
        connection.close()
        for row in self.rows["transition"]:
            row["detail"] = json.loads(row["detail"])
            self.stories[row["unit"]].append(row)
        for row in self.rows["event"]:
            row["data"] = json.loads(row["data"])

    def read_journals(self) -> None:
        follower = self.stage.told / "follower.jsonl"
        if follower.exists():
            self.followed = [json.loads(line) for line in follower.read_text().splitlines()]
        for path in sorted(self.stage.told.glob("client*.jsonl")):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            answers = {line["id"]: line for line in lines if "result" in line}
            for line in lines:
                if "path" in line:
                    told = answers.get(line["id"], {"result": "unknown"})
                    self.requests.append({**line, **told, "client": path.stem})

    def status(self, unit: str) -> str:
        return self.stories[unit][-1]["to_status"] if self.stories.get(unit) else "NEW"

    def merged(self) -> list[str]:
        """The units that are DONE by a merge."""
        return [unit for unit, story in self.stories.items() if any(row["trigger"] == "finish" for row in story)]

    def windows(self) -> dict[Key, list[Row]]:
        """The transitions of each attempt: from its start to the next one's."""
        found: dict[Key, list[Row]] = {}
        for unit, story in self.stories.items():
            key = None
            for row in story:
                if row["trigger"] == "start":
                    key = (unit, row["attempt"])
                    found[key] = []
                if key is not None:
                    found[key].append(row)
        return found

    def answered_for(self, since: float, until: float) -> float:
        """How many seconds a server answered between two moments."""
        return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in self.served)

    def events_file(self, key: Key) -> Path:
        return self.stage.state / "runs" / key[0] / str(key[1]) / "events.jsonl"
