import asyncio
import json
from pathlib import Path

from pyarrow import ipc
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest
from tornado.websocket import websocket_connect

STATE = Path(".orchestrator")
HEADERS = {"Authorization": f"Bearer {(STATE / 'token').read_text().strip()}", "Content-Type": "application/json"}
UNITS = [{"name": "schema", "prompt": "Write it."}, {"name": "loader", "prompt": "Use it.", "after": ["schema"]}]
SQL = "SELECT seq, unit, trigger, to_status, actor FROM transition ORDER BY seq"


def at(path):  # the address is looked up each time: a server that was started again may have another
    return json.loads((STATE / "server.json").read_text())["url"] + path


async def post(path, body, key):  # a wish with a key of its own is done once, however often it is sent
    request = HTTPRequest(at("/api/v1" + path), "POST", HEADERS | {"Idempotency-Key": key}, json.dumps(body))
    return (await AsyncHTTPClient().fetch(request)).body


async def main():
    since, left = 0, {unit["name"] for unit in UNITS}
    while left:
        try:
            since = since or json.loads(await post("/units", {"units": UNITS}, "batch-1"))["seq"]
            where = at(f"/ws?topics=unit,attention&since={since}").replace("http", "ws", 1)
            socket = await websocket_connect(HTTPRequest(where, headers=HEADERS))
            while left and (text := await socket.read_message()):  # None when the server hangs up
                message = json.loads(text)
                kind, about = message["type"], message.get("payload", {})
                if kind == "attention:added":
                    answer = {"text": "sqlite", "item": about["item"]}
                    await post(f"/units/{about['unit']}/answer", answer, f"answer-{about['item']}")
                elif kind == "unit:finish":
                    left.discard(about["unit"])
                since = message.get("seq", since)  # only now: what was broken off is told and done again
                print(since, kind, about.get("unit", ""), flush=True)
        except (OSError, HTTPError) as error:  # no server just now
            if getattr(error, "code", 599) < 500:
                raise
            await asyncio.sleep(0.2)
    print(ipc.open_stream(await post("/query", {"sql": SQL, "format": "arrow"}, "history")).read_all().to_pandas())


if __name__ == "__main__":
    asyncio.run(main())
