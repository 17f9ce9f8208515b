"""What was seen, as Prometheus' gauges: in a file, and at a push gateway where there is one."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, Gauge, generate_latest, push_to_gateway

from mlops.monitoring.decision import State
from mlops.monitoring.places import one_line

if TYPE_CHECKING:
    from mlops.monitoring.watch import Watched

GATEWAY = "PROMETHEUS_PUSHGATEWAY"
JOB = "mlops-monitoring"


def text(watched: Watched) -> bytes:
    """The gauges in Prometheus' text form."""
    return generate_latest(_registry(watched))


def push(watched: Watched) -> None:
    """Push the gauges to `PROMETHEUS_PUSHGATEWAY`; one that does not answer stops nothing."""
    gateway = os.environ.get(GATEWAY)
    if not gateway:
        return
    key = {"environment": watched.environment}
    try:
        push_to_gateway(gateway, JOB, _registry(watched), key, timeout=10)
    except (OSError, ValueError) as error:
        print(f"{GATEWAY}: {gateway}: not pushed: {one_line(error)}", file=sys.stderr)


def _registry(watched: Watched) -> CollectorRegistry:
    registry = CollectorRegistry()

    def gauge(name: str, text: str, values: dict[str, float], label: str = "") -> None:
        labels = ["environment", label] if label else ["environment"]
        made = Gauge(f"mlops_monitoring_{name}", text, labels, registry=registry)
        for key, value in values.items():
            made.labels(*[watched.environment, key][: len(labels)]).set(value)

    newest = watched.windows[0]
    labelled = watched.labelled[0] if watched.labelled else None
    qualities = labelled.qualities if labelled else ()
    gauge(
        "state",
        "1 for what is to be done: ok, watch or retrain",
        {state: float(state == watched.state) for state in get_args(State)},
        "state",
    )
    gauge("timestamp_seconds", "When this was seen", {"": watched.now.timestamp()})
    gauge("rows", "Rows of the newest window", {"": newest.rows})
    gauge("labels", "Labels of the newest window", {"": labelled.labels if labelled else 0})
    gauge("lines", "Lines of the logs: judged, other, future, broken", {**watched.lines}, "kind")
    gauge(
        "drift",
        "Population stability index of a feature, beyond chance",
        {f.name: f.drift for f in newest.features if f.drift is not None},
        "feature",
    )
    gauge(
        "missing",
        "Share of rows without the feature",
        {f.name: f.missing for f in newest.features},
        "feature",
    )
    gauge(
        "unseen",
        "Share of rows with a category that training surely never saw",
        {f.name: max(f.unseen, 0.0) for f in newest.features},
        "feature",
    )
    gauge(
        "scores_drift",
        "Population stability index of the predictions, beyond chance",
        {s.name: s.drift for s in newest.scores if s.drift is not None},
        "output",
    )
    gauge(
        "quality",
        "A metric of the newest labelled rows",
        {q.metric: q.value for q in qualities},
        "metric",
    )
    gauge(
        "quality_before",
        "The same metric of the evidence",
        {q.metric: q.before for q in qualities},
        "metric",
    )
    return registry
