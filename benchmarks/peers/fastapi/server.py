"""A forest behind FastAPI and joblib, as commonly written: one ``/predict``, and scikit-learn does the rest.

`python server.py PICKLE PORT`, in an environment of its own.
"""

import sys
from typing import Annotated

import joblib
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field

application = FastAPI()
forest = joblib.load(sys.argv[1])


class Row(BaseModel):
    """30 numbers in the forest's order."""

    features: Annotated[list[float], Field(min_length=30, max_length=30)]


class Prediction(BaseModel):
    """A label, and the probability of label 1."""

    label: int
    probability: float


@application.post("/predict")
def predict(row: Row) -> Prediction:
    """Score one row."""
    matrix = [row.features]
    return Prediction(label=forest.predict(matrix)[0], probability=forest.predict_proba(matrix)[0, 1])


if __name__ == "__main__":
    uvicorn.run(application, port=int(sys.argv[2]), log_level="warning")
