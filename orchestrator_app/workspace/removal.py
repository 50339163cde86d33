"""Deleting a worktree: put aside under another name first, so that a half-deleted one is never taken for one."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import uuid
from pathlib import Path

from orchestrator_app.workspace.places import Place, linked_place

logger = logging.getLogger(__name__)


def delete_worktree(place: Place, path: Path) -> None:
    """Delete a worktree and git's record of it. Renamed first: a half-deleted one must look neither like work nor like
    a record."""
    worktree = linked_place(place, path)
    if os.path.lexists(path):
        path.rename(path.with_name(_gone()))
    if worktree:
        worktree.git_dir.rename(place.common_dir / _gone())
    sweep_deleted(place.common_dir)
    sweep_deleted(path.parent)


def _gone() -> str:
    return f".gone-{uuid.uuid4().hex}"


def sweep_deleted(parent: Path) -> None:
    """Delete what was renamed to be deleted in `parent`, also what a crash has left of it.

    What can't be deleted (another user's files) stays and harms nothing: it is no worktree any more.
    """
    for gone in parent.glob(".gone-*"):
        try:
            if gone.is_dir() and not gone.is_symlink():
                shutil.rmtree(gone, onerror=_force)
            else:
                gone.unlink()
        except OSError as error:
            logger.warning("%s can't be deleted (%s); delete it by hand", gone, error.strerror)


def _force(function, path, _error) -> None:
    """An agent may have left directories that can't be written; they are ours to delete."""
    for one in (os.path.dirname(path), path):
        if not os.path.islink(one) and os.path.exists(one):
            os.chmod(one, os.stat(one).st_mode | stat.S_IRWXU)
    function(path)
