"""What docs/api.md says of the WebSocket."""

from __future__ import annotations

from orchestrator_app.api.messages import AGENT, TOPICS
from orchestrator_app.api.socket import FAILED, FULL, GOING, LONGEST, MOST, MOST_OF_ONE, OVER, QUIET, SHOWN, WRONG
from orchestrator_app.api.tail import BEHIND
from orchestrator_app.reports import SPOKEN

MEANINGS = {
    "unit:TRIGGER": ("unit", "a transition: `unit:submit`, `unit:start`, `unit:finish` … (docs/state-machine.md)"),
    "verdict": ("unit", "a ruling on a pair of units"),
    "session:started": ("session", "an attempt runs"),
    "session:ended": ("session", "it runs no longer; `trigger` says why (after `ask` it may wait for the answer)"),
    "session:updated": ("session", "its agent has named its conversation, or reported progress"),
    "session:iteration": ("session", "it reported progress with the number of a round"),
    "session:heartbeat": ("session", "it gave a sign of life"),
    "attention:added": ("attention", "something needs a person"),
    "attention:seen": ("attention", "a person has seen it"),
    "attention:resolved": ("attention", "it is settled"),
    "event": ("event", "something was said about a unit, or about the whole (`unit` null)"),
    "test:started": ("event", "an agent began a test"),
    "test:completed": ("event", "it has passed or failed"),
    "budget:updated": ("budget", "an agent has used tokens or money"),
    "agent:status": (AGENT, "what an agent does: it began, ended, or reported progress"),
    "agent:heartbeat": (AGENT, "it gave a sign of life"),
}
"""Every type of message there is, its topic, and when it is sent."""

EXAMPLE = """\
import json
from pathlib import Path
from websocket import create_connection  # pip install websocket-client

state = Path(".orchestrator")
url = json.loads((state / "server.json").read_text())["url"].replace("http", "ws")
header = ["Authorization: Bearer " + (state / "token").read_text().strip()]
socket = create_connection(url + "/ws?topics=unit", header=header, suppress_origin=True)
while (message := json.loads(socket.recv()))["type"] != "unit:finish":
    print(message.get("seq"), message["type"], message.get("payload", {}).get("unit", ""))
"""


def socket_markdown() -> str:
    """The section, as Markdown."""
    codes = {
        WRONG: "the address's words are wrong (an error message before it says which)",
        OVER: "the attempt is over",
        GOING: "the server stops: come back with `since`",
        FULL: f"{MOST:,} clients listen already, or {MOST_OF_ONE} sockets of one attempt are open: come back later",
        FAILED: "the server failed; its log says why",
    }
    lines = [
        "## WebSocket /ws",
        "",
        "What is committed, as it is committed. Outside the prefix, with the same token as every request, or the",
        "cookie of a page of this server. All of these may be left out:",
        "",
        "| Query | | |",
        "| --- | --- | --- |",
        "| `since` | integer | go on behind this `seq`: first everything that was missed, however much |",
        f"| `topics` | string | only these, with commas: {', '.join(TOPICS)}; all if not given |",
        "| `unit` | string | only what is about this unit |",
        "| `monitor` | string | `agents`: the messages `agent:…` of all attempts, too |",
        "",
        'Without `since` the first message is `{"type":"snapshot","seq":N,"ts":…,"payload":{…}}`: `status` as in GET',
        f"/status, the newest {SHOWN} open items as `attention`, the newest {SHOWN} `units` (or the one asked for),",
        "and `more`, which says where the others are. Nothing behind `seq` will be missed; what was committed while",
        "it was made may be in it already, as a unit's `version` tells.",
        "",
        'Then, for each record of the log, `{"type":…,"seq":…,"ts":…,"payload":{…}}`. A record has one message that',
        "carries it whole: its payload is the row, with its `table`, as in GET /feed. Others may follow with the same",
        "`seq`, in this order, which say the same in fewer words and have no `table`:",
        "",
        "| Type | Topic | Sent when |",
        "| --- | --- | --- |",
        *(f"| `{type}` | {_topic(topic)} | {meaning} |" for type, (topic, meaning) in MEANINGS.items()),
        "",
        "Every record is told exactly once and in order, also to a client that was away: it comes back with the `seq`",
        "of the last message it got as `since`. Who needs the further messages of that very record for certain comes",
        "back with one less, and skips what it has: a `seq` and a type make a message. A `since` beyond the head of",
        "the log is refused: it is of another log.",
        "",
        f"A client that falls more than about {BEHIND:,} records behind while it is connected is told",
        '`{"type":"gap","from":A,"to":B}` and goes on behind B; GET /feed has the records from A to B.',
        "",
        f'After {QUIET:g} seconds without a word the server sends `{{"type":"ping","seq":N}}`: all up to N that was',
        'asked for has been told. A `{"type":"pong"}` is welcome and not needed; `{"type":"ping"}` is answered by',
        '`{"type":"pong","seq":N}`. Beneath that, the server pings as RFC 6455 has it, which client libraries answer',
        f"by themselves, and drops a client that is silent for another {QUIET:g} seconds. Whatever else a client sends",
        'is answered by `{"type":"error","message":…}` and changes nothing; a message of more than',
        f"{LONGEST // 1024} kB ends the connection.",
        "",
        "The server closes with one of these codes:",
        "",
        *(f"- {code}: {meaning}" for code, meaning in codes.items()),
        "",
        "In the directory of a project, this follows its units until one is finished:",
        "",
        "```python",
        *EXAMPLE.splitlines(),
        "```",
        "",
        "### The channel of an attempt",
        "",
        "Each attempt finds a token of its own in `$ORCH_TOKEN`, which opens `/ws` and nothing else, until the attempt",
        "is over. The address is in `$ORCH_PROJECT/.orchestrator/server.json` (`url`): it may change when the server",
        "is started again. Over it an attempt sends what it could also append to `$ORCH_EVENTS`, one message at a time",
        f"({', '.join(SPOKEN)}), and each is written there before the",
        'answer `{"type":"ok","pos":…}`: what was acknowledged outlives the server. What is no such message is',
        "answered by an error and not kept. The first message to it is a `snapshot` that says which attempt it is;",
        '`{"type":"answer","payload":{"item":…,"question":…,"answer":…}}` is the answer to a question, for an attempt',
        "that waits for it, and again each time it connects.",
        "",
    ]
    return "\n".join(lines)


def _topic(topic: str) -> str:
    return "`monitor=agents`" if topic == AGENT else topic
