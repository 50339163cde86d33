"""The log for people who ask: SQL, Parquet files and data frames, while a server runs and when none does."""

from __future__ import annotations

from orchestrator_app.analysis.questions import LIMIT, export, query, query_packed

__all__ = ["LIMIT", "export", "query", "query_packed"]
