"""The 150 flowers of scikit-learn's `load_iris`."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series


class Flowers(pa.DataFrameModel):
    """One row per flower."""

    flower: Series[int]
    sepal_length: Series[float]
    sepal_width: Series[float]
    petal_length: Series[float]
    petal_width: Series[float]
    species: Series[str]

    class Config:
        strict = True
        unique = ["flower"]


TABLES: dict[str, type[pa.DataFrameModel]] = {"flowers": Flowers}


def csv() -> dict[str, pd.DataFrame]:
    """The raw tables."""
    from sklearn.datasets import load_iris

    read = load_iris(as_frame=True)
    rows = read.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    species = read.target.map(dict(enumerate(read.target_names)))
    return {"flowers": rows.assign(flower=range(len(rows)), species=species)}
