"""Card-payment fraud, with the schema of the ULB credit card data set.

The published file: "Credit Card Fraud Detection", Machine Learning Group of Université Libre de Bruxelles.
"""

import numpy as np

from model_export.recipe import Columns, Label, Recipe, number

_COMPONENTS = 28
_TWO_DAYS = 172_800
_FRAUDS = 0.017


def generate(random: np.random.Generator, rows: int) -> Columns:
    """Make transactions that look like the published ones.

    As there, the components have falling spread and heavy tails, and frauds pull a dozen of them away
    together. A fraud's severity says how far: some are hard to tell, and a few honest payments look odd.
    """
    labels = (random.random(rows) < _FRAUDS).astype(np.int8)
    spread = np.linspace(1.9, 0.4, _COMPONENTS)
    tails = np.sqrt(4 / random.chisquare(5, (rows, 1)))
    components = random.normal(size=(rows, _COMPONENTS)) * spread * tails
    severity = np.where(labels == 1, random.beta(4, 1.2, rows), 0.0)
    odd = random.random(rows) < 0.002
    severity[odd & (labels == 0)] = random.beta(1.5, 3, np.count_nonzero(odd & (labels == 0)))
    pull = np.zeros(_COMPONENTS)
    pull[[2, 3, 4, 6, 8, 9, 10, 11, 13, 15, 16, 17]] = [-6, 5, -2, -5, -3, -6, 4, -7, -8, -4, -7, -2]
    components += severity[:, None] * pull * random.gamma(6, 1 / 6, (rows, 1))
    night = random.random(rows) < np.where(labels == 1, 0.35, 0.1)
    hour = np.where(night, random.uniform(0, 6, rows), random.triangular(6, 15, 24, rows))
    seconds = np.floor(hour * 3600 + random.integers(0, 2, rows) * _TWO_DAYS / 2)
    amount = random.lognormal(np.where(labels == 1, 2.8, 3.2), np.where(labels == 1, 2.0, 1.6))
    by_time = np.argsort(seconds, kind="stable")
    columns = {
        "Time": seconds,
        **{f"V{index}": column for index, column in enumerate(components.round(9).T, 1)},
        "Amount": amount.clip(0, 25_000).round(2),
        "Class": labels,
    }
    return {name: column[by_time] for name, column in columns.items()}


RECIPE = Recipe(
    name="fraud",
    description="The probability that a card payment is fraudulent.",
    purpose=(
        "Card-payment authorisation asks for the probability that a payment is fraudulent, while the "
        "cardholder waits. From the threshold on a payment is labelled fraud; the authorisation system, not "
        "the model, decides what follows from that."
    ),
    limits=(
        "The components V1 to V28 come from a principal component analysis that is not part of this model: "
        "whoever calls it must apply the same one. Two days of one region's payments know no seasons. Where "
        "the share of frauds in payments is not that of the training data, a probability is a score, and not "
        "a frequency. Fraud changes: watch the drift of features and score, and train again."
    ),
    features=(
        number("Time", "Seconds since the first payment in the data."),
        *(
            number(f"V{index}", f"Principal component {index} of the payment's details.")
            for index in range(1, _COMPONENTS + 1)
        ),
        number("Amount", "The payment's amount."),
    ),
    target=Label(("Class",), ("legitimate", "fraud")),
    forest={
        "n_estimators": 256,
        "max_features": "sqrt",
        "min_samples_leaf": 1,
        "criterion": "entropy",
        "class_weight": None,
    },
    generate=generate,
    generated_rows=20_000,
    at_stake="payment",
)
