"""What is measured while it happens, for Prometheus. What can be read from the model is counted when it is asked for
(api/metrics.py). One process serves one project, so these are the process's own, as Prometheus has it.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

#: Seconds; from a quick commit to a wait that somebody notices, and to one that takes a day.
QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 7200, 86400)

TRANSITIONS = Counter("orch_transitions", "Transitions that this server committed", ["trigger"], registry=REGISTRY)
COMMIT = Histogram(
    "orch_commit_seconds", "From a decision to its being on the disk and told", buckets=QUICK, registry=REGISTRY
)
STEP = Histogram("orch_step_seconds", "One step of the scheduler", buckets=QUICK, registry=REGISTRY)
DISPATCH = Histogram("orch_dispatch_seconds", "From READY to the start", buckets=LONG, registry=REGISTRY)
FEED = Histogram(
    "orch_feed_lag_seconds",
    "From a frame's sending to its being painted in a browser",
    buckets=QUICK,
    registry=REGISTRY,
)
LISTEN = Histogram(
    "orch_listen_lag_seconds",
    "From a commit to its being ready for those who listen at /ws",
    buckets=QUICK,
    registry=REGISTRY,
)
