"""The service's metrics, for Prometheus."""

from __future__ import annotations

import math
import os
from functools import cache, partial

import numpy as np
import prometheus_client as prometheus
from prometheus_client.multiprocess import MultiProcessCollector

from mlops.contract.bundle import Array
from mlops.serving.model import Batch, Model
from mlops.serving.settings import COUNTERS

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 10_000)
TENTHS = 10
CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one worker; with several, `render` sums those of all."""

    def __init__(self) -> None:
        own = self.registry = prometheus.CollectorRegistry()
        count = partial(prometheus.Counter, registry=own)
        seconds = "From the head of a request to its answer."
        self.requests = count("mlops_requests", "Requests answered.", ["route", "status"])
        self.seconds = prometheus.Histogram(
            "mlops_request_seconds", seconds, ["route"], registry=own, buckets=SECONDS
        )
        self.batch = prometheus.Histogram(
            "mlops_batch_rows", "Rows in a run.", registry=own, buckets=ROWS
        )
        self.rows = count("mlops_rows", "Rows scored.", ["digest"])
        unseen, missing = "Categories that training never saw.", "Numeric values that were missing."
        self.unseen = count("mlops_unseen_categories", unseen, ["column"])
        self.missing = count("mlops_missing_values", missing, ["column"])
        tenths = "Scores by tenth: 0.3 counts those from 0.3 to 0.4."
        self.scores = count("mlops_scores", tenths, ["output", "tenth"])
        self.swaps = count("mlops_swaps", "Bundles loaded.", ["outcome"])
        self.sampled = count("mlops_samples", "Rows kept.", ["outcome"])
        self.keys = count("mlops_keys", "Keys looked up.", ["outcome"])
        # A counter that appears with its first event has no increase that an alert could see.
        for counter, outcomes in (
            (self.swaps, ("done", "refused")),
            (self.sampled, ("kept", "lost")),
            (self.keys, ("found", "unknown", "stale", "unavailable")),
        ):
            for outcome in outcomes:
                counter.labels(outcome)
        self.made = prometheus.Gauge(
            "mlops_features_made_timestamp_seconds", "When the features last read were made.",
            registry=own, multiprocess_mode="mostrecent",
        )  # fmt: skip
        self.model = prometheus.Gauge(
            "mlops_model", "The bundle in use.", ["name", "version", "digest"], registry=own,
            multiprocess_mode="mostrecent",
        )  # fmt: skip
        self._serving: tuple[str, str, str] | None = None
        # Finding a child by its labels takes longer than counting.
        self._request = cache(self.requests.labels)
        self._seconds = cache(self.seconds.labels)
        self._scores = cache(self.scores.labels)
        self._rows = cache(self.rows.labels)

    def serve(self, model: Model) -> None:
        """Record which model is in use."""
        if self._serving:
            self.model.labels(*self._serving).set(0)
        self._serving = (model.card.name, model.version, model.digest)
        self.model.labels(*self._serving).set(1)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._request(route, status).inc()
        self._seconds(route).observe(seconds)

    def scored(self, model: Model, rows: Batch, outputs: list[Array]) -> None:
        """Count one run of the model."""
        self.batch.observe(len(rows))
        self._rows(model.digest).inc(len(rows))
        for position, known in enumerate(model.categories):
            values = rows.categorical[:, position].tolist()
            if not known.issuperset(values):
                unseen = sum(value not in known for value in values)
                self.unseen.labels(model.categorical[position]).inc(unseen)
        missing = np.isnan(rows.numeric)
        if missing.any():
            for name, count in zip(model.numeric, missing.sum(axis=0).tolist(), strict=True):
                if count:
                    self.missing.labels(name).inc(count)
        if model.card.task != "regression":
            for name, scores in zip(model.card.outputs, outputs, strict=True):
                # A model may have no finite answer to numbers near the end of float32.
                tenths: dict[int, int] = {}
                for score in scores.tolist():
                    if math.isfinite(score):
                        tenth = min(max(int(score * TENTHS), 0), TENTHS - 1)
                        tenths[tenth] = tenths.get(tenth, 0) + 1
                for tenth, count in tenths.items():
                    self._scores(name, f"{tenth / TENTHS:.1f}").inc(count)

    def render(self) -> bytes:
        """Prometheus' text form."""
        if COUNTERS not in os.environ:
            return bytes(prometheus.generate_latest(self.registry))
        of_all_workers = prometheus.CollectorRegistry()
        MultiProcessCollector(of_all_workers)  # type: ignore[no-untyped-call]
        return bytes(prometheus.generate_latest(of_all_workers))
