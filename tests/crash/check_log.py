"""Whether the log is sound, holds all that clients and agents said, and is what the last server showed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from .evidence import TABLES, Evidence, Row


def faults(found: Evidence) -> Iterator[str]:
    yield from numbering(found)
    yield from chain(found)
    yield from requests(found)
    yield from messages(found)
    yield from blockers(found)
    yield from shown(found)
    yield from followed(found)


def numbering(found: Evidence) -> Iterator[str]:
    numbers = sorted(row["seq"] for table in TABLES for row in found.rows[table])
    for expected, number in enumerate(numbers, 1):
        if number != expected:
            yield f"the numbering breaks: {number} stands where {expected} should"
            return


def chain(found: Evidence) -> Iterator[str]:
    for unit, story in found.stories.items():
        status, attempt = "NEW", 0
        for version, row in enumerate(story, 1):
            at = f"{unit}, row {row['seq']}"
            if row["from_status"] != status or row["version"] != version:
                yield f"{at}: {row['from_status']}, version {row['version']}, follows {status}, version {version - 1}"
            if (row["from_status"], row["trigger"], row["to_status"]) not in found.moves:
                yield f"{at}: no rule for {row['from_status']} {row['trigger']} {row['to_status']}"
            if row["attempt"] != attempt + (row["trigger"] == "start"):
                yield f"{at}: attempt {row['attempt']} by {row['trigger']} follows attempt {attempt}"
            status, attempt = row["to_status"], row["attempt"]


def requests(found: Evidence) -> Iterator[str]:
    """What was acknowledged is there, by the client it was acknowledged to; what was refused is not; and a request that
    was repeated because nobody knew has happened once at most."""
    by_seq = {row["seq"]: row for table in TABLES for row in found.rows[table]}
    effects: dict[str, set[str]] = {}
    for row in found.rows["transition"]:
        if row["actor"].startswith("operator:client"):
            text = row["unit"] if row["trigger"] == "submit" else _text(row)
            effects.setdefault(row["cause"], set()).add(text)
    told: dict[str, Counter[str]] = {}
    for request in found.requests:
        who = f"{request['client']} {request['method']} {request['path']} {request['token']}"
        token = request["token"]
        if token:
            told.setdefault(token, Counter())[request["result"]] += 1
        if request["result"] != "ok":
            continue
        row = by_seq.get(request["seq"])
        if row is None:
            yield f"lost: {who} was acknowledged with row {request['seq']}, which is not there"
            continue
        cause = [one for one in found.rows["transition"] if one["cause"] == row["cause"]]
        if not any(one["actor"] == f"operator:{request['client']}" for one in cause):
            yield f"lost: {who} was acknowledged with row {row['seq']}, which is of {row.get('actor')}"
    for token, results in told.items():
        causes = [cause for cause, texts in effects.items() if any(_holds(text, token) for text in texts)]
        if results["ok"] and len(causes) != 1:
            yield f"{token} was acknowledged and has happened {len(causes)} times"
        elif len(causes) > 1:
            yield f"{token} was repeated and has happened {len(causes)} times"
        elif causes and not results["ok"] and not results["unknown"]:
            yield f"{token} was refused and has happened all the same"


def _text(row: Row) -> str:
    """What a request put into a row. The answers, comments and so on of earlier ones stand there too: the newest."""
    given = row["detail"].get("set", {})
    newest = [(given.get(name) or [""])[-1] for name in ("answers", "comments")]
    return json.dumps([row["reason"], given.get("prompt"), given.get("feedback"), *newest])


def _holds(text: str, token: str) -> bool:
    return text == token or (token.startswith("token-") and token in text)


def messages(found: Evidence) -> Iterator[str]:
    """Every line that an agent wrote is in the log once, and nothing else."""
    logged: dict[tuple[str, int], Counter[int]] = {}
    said: dict[tuple[str, int, int], Row] = {}
    for row in found.rows["event"]:
        if row["pos"] is not None:
            logged.setdefault((row["unit"], row["attempt"]), Counter())[row["pos"]] += 1
            said[row["unit"], row["attempt"], row["pos"]] = row
    for unit, marks in found.marks.items():
        for attempt in sorted({mark["attempt"] for mark in marks}):
            path = found.events_file((unit, attempt))
            if not path.exists():
                continue
            pos, there = 0, logged.pop((unit, attempt), Counter())
            for line in path.read_bytes().splitlines(keepends=True):
                pos += len(line)
                times = there.pop(pos, 0)
                if times != 1:
                    yield f"{unit}, attempt {attempt}: its message {line[:80]!r} is in the log {times} times"
                elif line.startswith(b"{") and said[unit, attempt, pos]["data"].get("n") != json.loads(line)["n"]:
                    yield f"{unit}, attempt {attempt}: row {said[unit, attempt, pos]['seq']} is not its {line[:80]!r}"
            if there:
                yield f"{unit}, attempt {attempt}: the log has messages at {sorted(there)}, which it never wrote"
    if logged:
        yield f"the log has messages of attempts that never ran: {sorted(logged)[:5]}"


def blockers(found: Evidence) -> Iterator[str]:
    """Nothing starts before what it waits for is DONE."""
    status: dict[str, str] = {}
    after: dict[str, list[str]] = {}
    for row in found.rows["transition"]:
        status[row["unit"]] = row["to_status"]
        after[row["unit"]] = row["detail"].get("set", {}).get("after", after.get(row["unit"], []))
        unmet = [one for one in after[row["unit"]] if status.get(one) != "DONE"]
        if row["trigger"] == "start" and unmet:
            yield f"{row['unit']} started (row {row['seq']}) before {unmet[0]} was DONE"
    for unit, now in status.items():
        if now == "BLOCKED" and all(status.get(one) == "DONE" for one in after[unit]):
            yield f"{unit} is BLOCKED though all it waits for is DONE"


def shown(found: Evidence) -> Iterator[str]:
    """What the last server showed is what the log says."""
    there = {name: found.stories[name][-1] for name in found.stories}
    for unit in found.shown:
        row = there.pop(unit["name"], None)
        if row is None or (unit["status"], unit["version"], unit["attempt"], unit["phase"]) != (
            row["to_status"],
            row["version"],
            row["attempt"],
            row["phase"],
        ):
            yield f"{unit['name']} is shown as {unit['status']}, version {unit['version']}; the log says {row}"
    if there:
        yield f"the log has units that were not shown: {sorted(there)[:5]}"


def followed(found: Evidence) -> Iterator[str]:
    """Who followed the feed through all deaths was shown every row once, in order, and none that is not there."""
    rows = [
        [table, row["seq"], row.get("unit"), row.get("trigger") or row.get("type")]
        for table in TABLES
        for row in found.rows[table]
    ]
    rows.sort(key=lambda row: row[1])
    for told, real in zip(found.followed, rows, strict=False):
        if told != real:
            yield f"the follower of the feed was shown {told} where the log has {real}"
            return
    if len(found.followed) != len(rows):
        yield f"the follower of the feed was shown {len(found.followed)} rows of {len(rows)}"
