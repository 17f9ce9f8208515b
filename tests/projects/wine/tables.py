"""The 178 wines of scikit-learn's `load_wine`, shuffled, two a day, with a table of shades."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series


class Wines(pa.DataFrameModel):
    """One row per wine; `grower` is 0, 1 or 2."""

    wine: Series[str]
    day: Series[pa.DateTime]
    alcohol: Series[float] = pa.Field(ge=5, le=25)
    malic_acid: Series[float] = pa.Field(ge=0, nullable=True)
    hue: Series[float]
    shade: Series[str] = pa.Field(metadata={"references": "shades.shade"})
    grower: Series[int] = pa.Field(isin=[0, 1, 2])

    class Config:
        strict = True
        coerce = True
        unique = ["wine"]
        metadata = {"day": "day"}


class Shades(pa.DataFrameModel):
    """One row per shade."""

    shade: Series[str]
    depth: Series[int]

    class Config:
        strict = True
        coerce = True
        unique = ["shade"]


TABLES: dict[str, type[pa.DataFrameModel]] = {"wines": Wines, "shades": Shades}


def csv() -> dict[str, pd.DataFrame]:
    """The raw tables, with an acid missing now and then."""
    from sklearn.datasets import load_wine

    frame = load_wine(as_frame=True).frame.sample(frac=1, random_state=7).reset_index(drop=True)
    rows = pd.RangeIndex(len(frame))
    shades = pd.cut(frame["color_intensity"], [0, 3, 6, 20], labels=["pale", "mid", "deep"])
    columns = {
        "wine": [f"wine-{row:03}" for row in rows],
        "day": pd.Timestamp("2021-03-01") + pd.to_timedelta(rows // 2, unit="D"),
        "alcohol": frame["alcohol"],
        "malic_acid": frame["malic_acid"].where(rows % 13 > 0),
        "hue": frame["hue"],
        "shade": shades.astype(str),
        "grower": frame["target"],
    }
    known = pd.DataFrame({"shade": ["pale", "mid", "deep"], "depth": [1, 2, 3]})
    return {"wines": pd.DataFrame(columns), "shades": known}
