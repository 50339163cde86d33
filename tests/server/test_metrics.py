"""`/metrics`, as Prometheus reads it."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families
from socket_kit import Ear


def samples(client) -> dict[str, float]:
    """Every figure by its name and labels."""
    text = client("GET", "/metrics").body.decode()
    return {
        sample.name + "".join(f" {value}" for key, value in sample.labels.items() if key != "le"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_figures_say_what_happened_and_how_things_stand(client, unit, wait_until) -> None:
    before = samples(client)
    name = unit(
        'printf \'{"type":"usage","input_tokens":70,"output_tokens":30,"usd":0.5}\\n\' >> "$ORCH_EVENTS"\n'
        'printf \'{"type":"ask","question":"which?"}\\n\' >> "$ORCH_EVENTS"'
    )
    wait_until(lambda: client.api("GET", f"/units/{name}").json["status"] == "NEEDS_ATTENTION")

    after = samples(client)

    def grew(figure: str) -> float:
        return after[figure] - before.get(figure, 0.0)

    assert grew("orch_transitions_total submit") == grew("orch_transitions_total ask") == 1
    assert (grew("orch_tokens_total input"), grew("orch_tokens_total output")) == (70, 30)
    assert grew("orch_cost_usd_total") == 0.5
    assert grew("orch_units NEEDS_ATTENTION") == grew("orch_attention_items question") == 1
    assert grew("orch_attempts_total") == grew("orch_dispatch_seconds_count") == 1
    assert grew("orch_commit_seconds_count") >= 2 and grew("orch_step_seconds_sum") > 0
    assert after["orch_healthy"] == 1 and after["orch_slots"] == 2
    assert after["orch_log_seq"] > before["orch_log_seq"] and after["orch_disk_free_bytes"] > 0
    assert after["orch_attention_age_seconds"] >= 0 and after["orch_queue_age_seconds"] >= 0
    assert "process_resident_memory_bytes" in after


def test_the_figures_need_the_token(client) -> None:
    assert client("GET", "/metrics", bearer=False).status == 401


#: What a monitor is promised, with its type.
PROMISED = {
    "orch_units": "gauge",
    "orch_transitions": "counter",
    "orch_dispatch_seconds": "histogram",
    "orch_commit_seconds": "histogram",
    "orch_step_seconds": "histogram",
    "orch_feed_lag_seconds": "histogram",
    "orch_listen_lag_seconds": "histogram",
    "orch_listeners": "gauge",
    "orch_queue_age_seconds": "gauge",
    "orch_attention_items": "gauge",
    "orch_attempts": "counter",
    "orch_tokens": "counter",
    "orch_cost_usd": "counter",
}


def test_the_figures_are_named_and_typed_as_prometheus_has_it(client) -> None:
    text = client("GET", "/metrics").body.decode()
    families = list(text_string_to_metric_families(text))

    ours = {family.name: family for family in families if family.name.startswith("orch_")}
    assert {name: ours[name].type for name in PROMISED if name in ours} == PROMISED
    assert len(families) == len({family.name for family in families})
    for family in ours.values():
        assert re.fullmatch(r"orch_[a-z]+(_[a-z]+)*", family.name) and len(family.documentation) > 10
        assert not re.search(r"_(total|count|sum|bucket|ms|milliseconds)$", family.name)
        assert family.type != "histogram" or family.name.endswith("_seconds")
        for sample in family.samples:
            assert sample.value >= 0 and (family.type != "counter" or sample.name.endswith(("_total", "_created")))


def test_those_who_listen_are_counted_and_so_is_how_late_they_are_told(client, unit, wait_until) -> None:
    before = samples(client)
    ear = Ear(client, "topics=unit")
    ear.next()
    name = unit()
    ear.until("unit:submit", unit=name)

    wait_until(lambda: samples(client)["orch_listen_lag_seconds_count"] > before["orch_listen_lag_seconds_count"])
    assert samples(client)["orch_listeners"] == before["orch_listeners"] + 1
    ear.end()
    wait_until(lambda: samples(client)["orch_listeners"] == before["orch_listeners"])
