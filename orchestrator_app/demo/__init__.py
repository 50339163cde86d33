"""`orch demo`: a scratch repository with real work units, on a live dashboard or (headless) played to its end."""

from orchestrator_app.demo.play import run

__all__ = ["run"]
