"""Read metrics in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

TENTHS = 10


class Sample(NamedTuple):
    """One value of a metric."""

    name: str
    labels: Mapping[str, str]
    value: float


def samples(text: str) -> Iterator[Sample]:
    """Every value in the text; a counter's by its full name, `_total` included."""
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield Sample(sample.name, sample.labels, float(sample.value))


def tenths(samples: Iterable[Sample], output: str) -> tuple[int, ...]:
    """Count rows by the tenth of 0 to 1 that an output fell into; empty where none is counted."""
    counts, counted = [0] * TENTHS, False
    for name, labels, value in samples:
        if name == "mlops_scores_total" and labels["output"] == output:
            counts[round(float(labels["tenth"]) * TENTHS)] += int(value)
            counted = True
    return tuple(counts) if counted else ()


def quantile(share: float, buckets: Mapping[float, float]) -> float:
    """A histogram's quantile, from cumulative counts by upper bound; 0 without values.

    Values are taken to be spread evenly within a bucket, as `histogram_quantile` does.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return 0.0
    rank, below, start = share * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if bound == float("inf"):
                return start
            return start + (bound - start) * (rank - below) / max(buckets[bound] - below, 1e-12)
        below, start = buckets[bound], bound
    return start
