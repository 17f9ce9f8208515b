"""The 442 patients of scikit-learn's `load_diabetes`, in their order, three a day."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series


class Patients(pa.DataFrameModel):
    """One row per patient."""

    patient: Series[int] = pa.Field(ge=0)
    day: Series[pa.DateTime]
    age: Series[float] = pa.Field(ge=0, le=120)
    sex: Series[str] = pa.Field(isin=["a", "b"])
    bmi: Series[float] = pa.Field(ge=10, le=80)
    bp: Series[float] = pa.Field(ge=30, le=200, nullable=True)
    s5: Series[float]
    progression: Series[float] = pa.Field(ge=0, nullable=True)

    class Config:
        strict = True
        coerce = True
        unique = ["patient"]
        metadata = {"day": "day"}


TABLES: dict[str, type[pa.DataFrameModel]] = {"patients": Patients}


def csv() -> dict[str, pd.DataFrame]:
    """The raw tables, with a blood pressure missing now and then."""
    from sklearn.datasets import load_diabetes

    frame = load_diabetes(as_frame=True, scaled=False).frame
    rows = pd.RangeIndex(len(frame))
    columns = {
        "patient": rows,
        "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rows // 3, unit="D"),
        "age": frame["age"],
        "sex": frame["sex"].map({1.0: "a", 2.0: "b"}),
        "bmi": frame["bmi"],
        "bp": frame["bp"].where(rows % 17 > 0),
        "s5": frame["s5"],
        "progression": frame["target"].where(rows % 40 > 0),
    }
    return {"patients": pd.DataFrame(columns)}
