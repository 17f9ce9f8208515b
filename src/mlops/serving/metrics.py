"""The service's metrics, for Prometheus."""

from __future__ import annotations

import math
import os

import numpy as np
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from mlops.contract.bundle import Array
from mlops.serving.model import Batch, Model

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 10_000)
TENTHS = 10
SHARED = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one worker; with several, `render` sums those of all."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self._serving: tuple[str, str, str] | None = None
        # Finding a child by its labels takes longer than counting.
        self._routes: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._tenths: dict[tuple[str, int], Counter] = {}
        self.requests = Counter(
            "mlops_requests", "Requests answered.", ["route", "status"], registry=own
        )
        self.seconds = Histogram(
            "mlops_request_seconds", "From the head of a request to its answer.",
            ["route"], registry=own, buckets=SECONDS,
        )  # fmt: skip
        self.batch = Histogram("mlops_batch_rows", "Rows in a run.", registry=own, buckets=ROWS)
        self.rows = Counter("mlops_rows", "Rows scored.", ["digest"], registry=own)
        self.unseen = Counter(
            "mlops_unseen_categories",
            "Categories that training never saw.",
            ["column"],
            registry=own,
        )
        self.missing = Counter(
            "mlops_missing_values",
            "Numeric values that were missing.",
            ["column"],
            registry=own,
        )
        self.scores = Counter(
            "mlops_scores", "Scores by tenth: 0.3 counts those from 0.3 to 0.4.",
            ["output", "tenth"], registry=own,
        )  # fmt: skip
        self.swaps = Counter("mlops_swaps", "Bundles loaded.", ["outcome"], registry=own)
        self.sampled = Counter("mlops_samples", "Rows kept.", ["outcome"], registry=own)
        self.model = Gauge(
            "mlops_model", "The bundle in use.", ["name", "version", "digest"], registry=own,
            multiprocess_mode="mostrecent",
        )  # fmt: skip

    def serve(self, model: Model) -> None:
        """Record which model is in use."""
        if self._serving:
            self.model.labels(*self._serving).set(0)
        self._serving = (model.card.name, model.version, model.digest)
        self.model.labels(*self._serving).set(1)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        counters = self._routes.get((route, status))
        if counters is None:
            counters = self.requests.labels(route, status), self.seconds.labels(route)
            self._routes[route, status] = counters
        counters[0].inc()
        counters[1].observe(seconds)

    def scored(self, model: Model, rows: Batch, outputs: list[Array]) -> None:
        """Count one run of the model."""
        self.batch.observe(len(rows))
        self.rows.labels(model.digest).inc(len(rows))
        self._count_unseen(model, rows)
        self._count_missing(model, rows)
        if model.card.task != "regression":
            for name, values in zip(model.card.outputs, outputs, strict=True):
                self._count_scores(name, values)

    def render(self) -> bytes:
        """Prometheus' text form."""
        if SHARED not in os.environ:
            return bytes(generate_latest(self.registry))
        of_all_workers = CollectorRegistry()
        MultiProcessCollector(of_all_workers)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(of_all_workers))

    def _count_unseen(self, model: Model, rows: Batch) -> None:
        for position, known in enumerate(model.categories):
            values = rows.categorical[:, position].tolist()
            if not known.issuperset(values):
                unseen = sum(value not in known for value in values)
                self.unseen.labels(model.categorical[position]).inc(unseen)

    def _count_missing(self, model: Model, rows: Batch) -> None:
        missing = np.isnan(rows.numeric)
        if missing.any():
            counts = missing.sum(axis=0)
            for position in counts.nonzero()[0].tolist():
                self.missing.labels(model.numeric[position]).inc(int(counts[position]))

    def _count_scores(self, name: str, values: Array) -> None:
        # A model may have no finite answer to numbers near the end of float32.
        counts: dict[int, int] = {}
        for value in values.tolist():
            if math.isfinite(value):
                tenth = min(max(int(value * TENTHS), 0), TENTHS - 1)
                counts[tenth] = counts.get(tenth, 0) + 1
        for tenth, count in counts.items():
            counter = self._tenths.get((name, tenth))
            if counter is None:
                counter = self.scores.labels(name, f"{tenth / TENTHS:.1f}")
                self._tenths[name, tenth] = counter
            counter.inc(count)
