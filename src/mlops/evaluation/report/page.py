"""The evaluation report: one HTML page that loads no other file.

Equal content gives equal bytes: no time, no host, no random id.
"""

from __future__ import annotations

from pathlib import Path

import jinja2

from mlops.evaluation.metrics import main_metric
from mlops.evaluation.report import charts, tables, wording
from mlops.evaluation.report.content import Content


def render(content: Content) -> str:
    """Write the page. Raises KeyError when a metric or a column that it shows is absent."""
    name, greater_is_better = main_metric(content.card.task)
    return template(Path(__file__).parent / "report.html.j2").render(
        content=content,
        card=content.card,
        main=name,
        greater_is_better=greater_is_better,
        charts=charts.charts(content),
        **{part.__name__: part(content) for part in tables.PARTS},
    )


def template(file: Path) -> jinja2.Template:
    """A page's template; one in another folder may extend this folder's `report.html.j2`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([file.parent, Path(__file__).parent], encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=wording.number, metric=wording.metric_name)
    return environment.get_template(file.name)
