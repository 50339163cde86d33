"""What `orch backup` needs of a running server."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from orchestrator_app.api.routing import Call, Field, Route
from orchestrator_app.api.shapes import COUNT, thing
from orchestrator_app.errors import StoreError, UsageError
from orchestrator_app.store.files import in_one_line


async def backup(call: Call) -> Any:
    folder = Path(call.body["folder"])
    if not folder.is_absolute() or not folder.is_dir() or any(folder.iterdir()):
        raise UsageError("folder must be the absolute path of an empty directory")
    return {"seq": await call.aside(partial(_copy, call.orchestrator.log, folder))}


def _copy(log: Any, folder: Path) -> int:
    try:
        return log.snapshot(folder)
    except OSError as error:
        raise StoreError(f"the log could not be copied to {folder}: {in_one_line(error)}") from None


ROUTES = (
    Route(
        "POST",
        "/backup",
        "Copy the log's files as they are now, up to row `seq`; `orch backup` makes one checked file of them.",
        backup,
        body=(Field("folder", "string", "an empty directory of this machine", required=True),),
        gives=thing(seq=COUNT),
    ),
)
