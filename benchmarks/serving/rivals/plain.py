"""FastAPI with a pydantic model of the row: `uvicorn benchmarks.serving.rivals.plain:app`."""

from typing import Any

from fastapi import FastAPI

from benchmarks.serving.rivals.row import Model, Prediction

app = FastAPI()
model = Model()
Row: Any = model.row


@app.post("/predict")
def predict(row: Row) -> Prediction:
    """The probability of one row."""
    return model.predict(row)
