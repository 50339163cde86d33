"""`/metrics`, for Prometheus: what was measured meanwhile, and what the model says now."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from orchestrator_app.api.routing import Answer, Call, Route
from orchestrator_app.metrics import REGISTRY
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.states import Status


class Picture(Collector):
    """The model as it is when it is asked for. A scan of the units: some 20 ms for 100,000, off the server's loop."""

    def __init__(self, orchestrator: Orchestrator, listeners: int) -> None:
        self._orchestrator, self._listeners = orchestrator, listeners

    def collect(self) -> Iterator[Metric]:
        board, status = self._orchestrator.board, self._orchestrator.status()
        units = GaugeMetricFamily("orch_units", "Work units, by status", labels=["status"])
        for name, number in status["counts"].items():
            units.add_metric([name], number)
        yield units
        items = GaugeMetricFamily("orch_attention_items", "Open attention items, by kind", labels=["kind"])
        opened = list(board.attention.values())
        for kind, number in Counter(item.kind for item in opened).items():
            items.add_metric([kind], number)
        yield items
        now = time.time()
        waiting, tokens_in, tokens_out, usd, attempts = now, 0, 0, 0.0, 0
        for unit in list(board.units.values()):
            attempts += unit.attempt
            if unit.status is Status.READY and unit.since is not None:
                waiting = min(waiting, _epoch(unit.since))
            if unit.spent_in_all is not None:
                tokens_in += unit.spent_in_all.input_tokens
                tokens_out += unit.spent_in_all.output_tokens
                usd += unit.spent_in_all.usd
        for name, meaning, value in (
            ("orch_queue_age_seconds", "How long the oldest READY unit has been READY", now - waiting),
            (
                "orch_attention_age_seconds",
                "How long the oldest open attention item has been open",
                max((now - _epoch(item.opened_at) for item in opened), default=0.0),
            ),
            ("orch_running", "Units that run", status["running"]),
            ("orch_slots", "How many attempts may run at once", status["slots"]),
            ("orch_dispatch_paused", "1 while nothing new is started because an operator said so", _flag(status)),
            ("orch_healthy", "1 while all works as it should", float(status["state"] == "ok")),
            ("orch_listeners", "Sockets that are open at /ws", self._listeners),
            ("orch_log_seq", "The number of the newest record of the log", status["seq"]),
            ("orch_disk_free_bytes", "Free space where the log lies", shutil.disk_usage(self._state).free),
        ):
            yield GaugeMetricFamily(name, meaning, value=value)
        yield CounterMetricFamily("orch_attempts", "Attempts, of all units", value=attempts)
        tokens = CounterMetricFamily("orch_tokens", "Tokens that agents said they used", labels=["direction"])
        tokens.add_metric(["input"], tokens_in)
        tokens.add_metric(["output"], tokens_out)
        yield tokens
        yield CounterMetricFamily("orch_cost_usd", "What agents said they cost, in US dollars", value=usd)

    @property
    def _state(self) -> Any:
        return self._orchestrator.project.state


def _flag(status: dict[str, Any]) -> float:
    return float(status["dispatch"] == "paused")


def _epoch(moment: Any) -> float:
    return moment.replace(tzinfo=UTC).timestamp()


def _text(orchestrator: Orchestrator, listeners: int) -> bytes:
    registry = CollectorRegistry()
    registry.register(Picture(orchestrator, listeners))
    return generate_latest(REGISTRY) + generate_latest(registry)


async def metrics(call: Call) -> Any:
    text = await call.aside(_text, call.orchestrator, call.server.changes.tail.listening)
    return Answer(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


ROUTE = Route("GET", "/metrics", "Figures for Prometheus.", metrics)
