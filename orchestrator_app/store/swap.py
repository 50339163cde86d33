"""Other files in the place of the log's, in one step that no crash can cut in half.

What is to come stands complete in a folder of its own, with the list of what has to make room. From the moment that
this folder has its final name the replacement is a fact: whoever opens the log next carries out what is left of it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from orchestrator_app.store.files import DATABASE, empty_folder, sync_file, sync_folder

READY = "replacing"


def replace_log(folder: Path, database: Path, keep: str, aside: Sequence[str]) -> None:
    """Put a closed `database` in the place of the one in `folder`, and move the `aside` paths to `folder/keep`.

    Nobody may have the log open. Raises OSError: then either nothing has changed or `finish` does the rest.
    """
    draft = empty_folder(folder / (READY + ".tmp"))
    sync_file(database)
    os.replace(database, draft / DATABASE)
    (draft / "plan.json").write_text(json.dumps({"keep": keep, "aside": list(aside)}))
    sync_file(draft / "plan.json")
    sync_folder(draft)
    os.replace(draft, folder / READY)
    sync_folder(folder)
    finish(folder)


def is_unfinished(folder: Path) -> bool:
    """Whether a crash came in between."""
    return (folder / READY).exists()


def finish(folder: Path) -> None:
    """Carry out what a crash left of a replacement, if there is one. Raises OSError."""
    ready = folder / READY
    if not ready.exists():
        return
    if (ready / DATABASE).exists():
        plan = json.loads((ready / "plan.json").read_text())
        touched = set()
        for name in plan["aside"]:
            old, kept = folder / name, folder / plan["keep"] / name
            if os.path.lexists(old):
                kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.replace(old, kept)
                touched |= {old.parent, kept.parent}
        for parent in touched:
            sync_folder(parent)
        os.replace(ready / DATABASE, folder / DATABASE)
        sync_folder(folder)
    shutil.rmtree(ready)
