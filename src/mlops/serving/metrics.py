"""What the service counts, for Prometheus."""

from __future__ import annotations

import math
import os
from collections import Counter as Counts

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
        mine = self.registry = CollectorRegistry()
        self._serving: tuple[str, str, str] | None = None
        # Looking a child up by its labels costs more than counting.
        self._routes: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._tenths: dict[tuple[str, int], Counter] = {}
        self.requests = Counter(
            "mlops_requests", "Requests answered.", ["route", "status"], registry=mine
        )
        self.seconds = Histogram(
            "mlops_request_seconds", "From the head of a request to its answer.",
            ["route"], registry=mine, buckets=SECONDS,
        )  # fmt: skip
        self.batch = Histogram("mlops_batch_rows", "Rows in a run.", registry=mine, buckets=ROWS)
        self.rows = Counter("mlops_rows", "Rows scored.", ["digest"], registry=mine)
        self.unseen = Counter(
            "mlops_unseen_categories", "Words that training never saw.", ["column"], registry=mine
        )
        self.missing = Counter(
            "mlops_missing_values", "Numbers that were not given.", ["column"], registry=mine
        )
        self.scores = Counter(
            "mlops_scores", "Scores by tenth: 0.3 counts those from 0.3 to 0.4.",
            ["output", "tenth"], registry=mine,
        )  # fmt: skip
        self.swaps = Counter("mlops_swaps", "Bundles loaded.", ["outcome"], registry=mine)
        self.sampled = Counter("mlops_samples", "Rows kept.", ["outcome"], registry=mine)
        self.model = Gauge(
            "mlops_model", "The bundle in use.", ["name", "version", "digest"], registry=mine,
            multiprocess_mode="mostrecent",
        )  # fmt: skip

    def serve(self, model: Model) -> None:
        """From now on this model is in use."""
        if self._serving:
            self.model.labels(*self._serving).set(0)
        self._serving = (model.card.name, model.version, model.digest)
        self.model.labels(*self._serving).set(1)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        known = self._routes.get((route, status))
        if known is None:
            known = self.requests.labels(route, status), self.seconds.labels(route)
            self._routes[route, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def run(self, model: Model, rows: Batch, outputs: list[Array]) -> None:
        """Count one run of the model."""
        self.batch.observe(len(rows))
        self.rows.labels(model.digest).inc(len(rows))
        self._count_words(model, rows)
        self._count_missing(model, rows)
        if model.card.task != "regression":
            for name, values in zip(model.card.outputs, outputs, strict=True):
                self._count_scores(name, values)

    def render(self) -> bytes:
        """Prometheus' text form."""
        if SHARED not in os.environ:
            return bytes(generate_latest(self.registry))
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(everyone))

    def _count_words(self, model: Model, rows: Batch) -> None:
        for place, known in enumerate(model.known):
            unseen = sum(word not in known for word in rows.words[:, place].tolist())
            if unseen:
                self.unseen.labels(model.words[place]).inc(unseen)

    def _count_missing(self, model: Model, rows: Batch) -> None:
        missing = np.isnan(rows.numbers)
        if missing.any():
            counts = missing.sum(axis=0)
            for place in counts.nonzero()[0].tolist():
                self.missing.labels(model.numbers[place]).inc(int(counts[place]))

    def _count_scores(self, name: str, values: Array) -> None:
        # A model may have no finite answer to numbers near the end of float32.
        finite = (value for value in values.tolist() if math.isfinite(value))
        counts = Counts(min(max(int(value * TENTHS), 0), TENTHS - 1) for value in finite)
        for tenth, count in counts.items():
            known = self._tenths.get((name, tenth))
            if known is None:
                known = self.scores.labels(name, f"{tenth / TENTHS:.1f}")
                self._tenths[name, tenth] = known
            known.inc(count)
