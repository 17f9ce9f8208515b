"""The search may read a sample of the training rows; the winner is fitted on all of them."""

import pytest

from mlops.pipeline import lines


@pytest.mark.slow
def test_a_search_on_a_sample_says_so_and_the_model_has_every_row(tracked, tmp_path):
    workspace = tracked("trips", tmp_path / "trips").change(
        {"tune.families": ["lightgbm"], "tune.max_evals": 1, "tune.rows": 500}
    )
    every = workspace.run("ingest", "featurize").rows["training"]
    tuned = workspace.run("tune")
    kept, of = tuned.sample
    assert 450 < kept <= 500 < of == every
    note = f"searched on {kept:,} of {every:,} training rows"
    assert note in lines.screen_line("tune", tuned.model_dump(), 1.0, "run")
    assert workspace.run("train").rows == every
    workspace.run("evaluate")
    report = (workspace.root / "reports/report.html").read_text()
    assert f"on a sample of {kept:,} of {every:,} training rows" in report
    assert workspace.change({"tune.rows": None}).run("tune").sample is None
