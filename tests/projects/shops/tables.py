"""Twelve shops in four months of 2024: made up, the same rows every time."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series


class Sales(pa.DataFrameModel):
    """One row per shop and day; one that was closed has nothing `sold`."""

    shop: Series[str] = pa.Field(metadata={"references": "shops.shop"})
    day: Series[pa.DateTime]
    offer: Series[int] = pa.Field(isin=[0, 1])
    sold: Series[pd.Int64Dtype] = pa.Field(ge=0, nullable=True)

    class Config:
        strict = True
        coerce = True
        unique = ["shop", "day"]
        metadata = {"day": "day"}


class Shops(pa.DataFrameModel):
    """One row per shop."""

    shop: Series[str]
    town: Series[str]
    size: Series[int] = pa.Field(gt=0)

    class Config:
        strict = True
        coerce = True
        unique = ["shop"]


TABLES: dict[str, type[pa.DataFrameModel]] = {"sales": Sales, "shops": Shops}


def csv() -> dict[str, pd.DataFrame]:
    """The raw tables, with a shop closed now and then."""
    # The old generator's numbers are the same with every version of NumPy.
    random = np.random.RandomState(5)
    number = np.arange(12)
    towns = np.array(["Bern", "Thun", "Chur"])[number % 3]
    names = [f"shop-{n:02}" for n in number]
    shops = pd.DataFrame({"shop": names, "town": towns, "size": 40 + 15 * number})
    days = pd.date_range("2024-01-01", "2024-04-30")
    sales = pd.MultiIndex.from_product([names, days], names=["shop", "day"]).to_frame(index=False)
    sales["offer"] = random.randint(0, 2, len(sales))
    level = np.repeat(10 + number, len(days)) + 8 * sales["offer"]
    sales["sold"] = pd.array(random.poisson(level), "Int64")
    sales.loc[random.uniform(size=len(sales)) < 0.1, "sold"] = pd.NA
    return {"sales": sales, "shops": shops}
