"""The 569 samples of scikit-learn's `load_breast_cancer`, four of their measures."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series


class Samples(pa.DataFrameModel):
    """One row per sample."""

    sample: Series[str]
    mean_radius: Series[float] = pa.Field(ge=0)
    mean_texture: Series[float]
    mean_smoothness: Series[float]
    worst_area: Series[float]
    diagnosis: Series[str] = pa.Field(isin=["malignant", "benign"])

    class Config:
        strict = True
        unique = ["sample"]


TABLES: dict[str, type[pa.DataFrameModel]] = {"samples": Samples}


def csv() -> dict[str, pd.DataFrame]:
    """The raw tables."""
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).frame
    rows = frame[["mean radius", "mean texture", "mean smoothness", "worst area"]]
    rows.columns = [name.replace(" ", "_") for name in rows]
    diagnosis = frame["target"].map({0: "malignant", 1: "benign"})
    names = [f"S{number:04}" for number in range(len(rows))]
    return {"samples": rows.assign(sample=names, diagnosis=diagnosis)}
