"""Read metrics in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

TENTHS = 10


def samples(text: str) -> list[Sample]:
    """Every value in the text; a counter's by its full name, `_total` included."""
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples]


def tenths(samples: Iterable[Sample], output: str) -> tuple[int, ...]:
    """Count rows by the tenth of 0 to 1 that an output fell into; empty where none is counted."""
    counts: Counter[int] = Counter()
    for sample in samples:
        if sample.name == "mlops_scores_total" and sample.labels["output"] == output:
            counts[round(float(sample.labels["tenth"]) * TENTHS)] += int(sample.value)
    return tuple(counts[tenth] for tenth in range(TENTHS)) if counts else ()


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
