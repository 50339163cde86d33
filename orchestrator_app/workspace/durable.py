"""What is merged is on the disk before a branch says so: git by itself leaves the objects of a commit to the cache."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator_app.workspace.git import run_git
from orchestrator_app.workspace.places import Place


def force_to_disk(place: Place, old: str, new: str) -> None:
    """Force all objects that `new` has and `old` has not to the disk, agents' own commits among them.

    Those in packs are there already: git forces a pack itself.
    """
    listed = run_git(["rev-list", "--objects", new, f"^{old}"], place, timeout=600)
    objects = place.common_dir / "objects"
    names = [line.partition(" ")[0] for line in listed.out.splitlines()]
    folders = {name[:2] for name in names if _force(objects / name[:2] / name[2:])}
    for folder in sorted(folders):
        _force(objects / folder)
    _force(objects)


def _force(path: Path) -> bool:
    """Whether there is such a file or directory; it is on the disk then."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return True
