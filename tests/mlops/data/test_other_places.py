"""The same rows make the same bundle, digest for digest, wherever they lie."""

import pandas as pd
import pytest

STAGES = ("ingest", "featurize", "tune", "train")


@pytest.mark.slow
def test_csv_parquet_and_a_package_give_the_same_bundle(tracked, tmp_path, monkeypatch):
    quick = {"tune.families": ["lightgbm"], "tune.max_evals": 1}
    workspace = tracked("wine", tmp_path / "wine").change(quick)
    digests = {workspace.run(*STAGES).digest}

    parquet = workspace.root / "parquet"
    parquet.mkdir()
    for file in workspace.tables().iterdir():
        rows = pd.read_csv(file).sample(frac=1, random_state=1)
        if "day" in rows:
            rows["day"] = pd.to_datetime(rows["day"])
        rows.to_parquet(parquet / f"{file.stem}.parquet", index=False, row_group_size=50)
    digests.add(workspace.change({"data.location": "parquet"}).run(*STAGES).digest)

    info = tmp_path / "cellar-1.0.dist-info"
    (tmp_path / "cellar").mkdir()
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cellar\nVersion: 1.0\n")
    (info / "RECORD").write_text("cellar/wines.csv,,\ncellar/shades.csv,,\n")
    for file in workspace.tables().iterdir():
        file.rename(tmp_path / "cellar" / file.name)
    monkeypatch.syspath_prepend(str(tmp_path))
    package = {"data.source": "package", "data.location": "cellar"}
    digests.add(workspace.change(package).run(*STAGES).digest)
    assert len(digests) == 1
