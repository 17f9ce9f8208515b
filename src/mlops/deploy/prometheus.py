"""Read metrics in Prometheus' text format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

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
    if not bounds:
        return 0.0
    counts = [buckets[bound] for bound in bounds]
    # Values above the last finite bound are taken to be at that bound.
    starts = [0.0, *(bound for bound in bounds if math.isfinite(bound))]
    ends = [min(bound, starts[-1]) for bound in bounds]
    return float(np.interp(share * counts[-1], [0.0, *counts], [0.0, *ends]))
