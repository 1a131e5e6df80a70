"""Customers who leave, with the schema of the IBM Telco customer churn sample.

The published file: "Telco Customer Churn", IBM sample data sets.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_export.recipe import Columns, Label, Recipe, category, flag, number

_NO_YES = ("No", "Yes")
_WITH_INTERNET = ("No", "No internet service", "Yes")
_SERVICES = (
    "OnlineSecurity",
    "OnlineBackup",
    "DeviceProtection",
    "TechSupport",
    "StreamingTV",
    "StreamingMovies",
)
_CONTRACTS = ("Month-to-month", "One year", "Two year")
_PAYMENTS = ("Bank transfer (automatic)", "Credit card (automatic)", "Electronic check", "Mailed check")


def generate(random: np.random.Generator, rows: int) -> Columns:
    """Make customers that look like the published ones: new, dear and unbound ones leave.

    As there, whoever has just come has no total of charges yet.
    """
    contract = random.choice(3, rows, p=[0.55, 0.21, 0.24])
    tenure = np.minimum(np.floor(random.gamma(1.1 + contract, 22, rows)), 72).astype(int)
    internet = random.choice(3, rows, p=[0.22, 0.34, 0.44])
    phone = (internet != 1) | (random.random(rows) < 0.72)
    lines = phone & (random.random(rows) < 0.46)
    partner = random.random(rows) < 0.48
    taken = [(internet > 0) & (random.random(rows) < 0.22 + 0.13 * contract) for _ in _SERVICES]
    monthly = 18.5 + 25 * (internet == 1) + 50 * (internet == 2) + 5 * lines + 6 * np.sum(taken, axis=0)
    monthly = (monthly + random.normal(0, 1.5, rows)).round(2)
    total = (monthly * tenure * random.normal(1, 0.02, rows)).round(2)
    payment = random.choice(4, rows, p=[0.22, 0.21, 0.34, 0.23])
    senior = random.random(rows) < 0.16
    drawn = (
        0.9 * (internet == 2)
        - 0.8 * (internet == 0)
        - 1.6 * contract
        - 0.035 * tenure
        + 0.5 * (payment == 2)
        + 0.3 * senior
        - 0.4 * taken[0]
        - 0.4 * taken[3]
    )
    leaves = random.random(rows) < 1 / (1 + np.exp(-drawn - 0.35))
    no_internet = internet == 0
    return {
        "customerID": np.char.zfill(np.arange(rows).astype(str), 7),
        "gender": _text(random.integers(0, 2, rows), ("Female", "Male")),
        "SeniorCitizen": senior.astype(int),
        "Partner": _text(partner, _NO_YES),
        "Dependents": _text(partner & (random.random(rows) < 0.55), _NO_YES),
        "tenure": tenure,
        "PhoneService": _text(phone, _NO_YES),
        "MultipleLines": _text(np.where(phone, 2 * lines, 1), ("No", "No phone service", "Yes")),
        "InternetService": _text(internet, ("No", "DSL", "Fiber optic")),
        **{
            name: _text(np.where(no_internet, 1, 2 * has), _WITH_INTERNET)
            for name, has in zip(_SERVICES, taken, strict=True)
        },
        "Contract": _text(contract, _CONTRACTS),
        "PaperlessBilling": _text(random.random(rows) < 0.59, _NO_YES),
        "PaymentMethod": _text(payment, _PAYMENTS),
        "MonthlyCharges": monthly,
        "TotalCharges": np.where(tenure > 0, total, np.nan),
        "Churn": _text(leaves, _NO_YES),
    }


def _text(codes: NDArray[Any], names: tuple[str, ...]) -> NDArray[np.str_]:
    texts: NDArray[np.str_] = np.array(names)[codes.astype(int)]
    return texts


RECIPE = Recipe(
    name="churn",
    description="The probability that a customer leaves.",
    purpose=(
        "Retention campaigns ask which customers are likely to leave, to make them an offer. From the "
        "threshold on a customer is labelled leaves; whom to call is the campaign's decision, and the "
        "probability lets it go by its budget rather than by the threshold."
    ),
    limits=(
        "The data are one month of one company, and say who left within it: not when another customer "
        "will. A probability is not the effect of an offer: who is likely to leave may not be who can be "
        "kept. Gender and age are among the features; where the law forbids to offer by them, they must "
        "not be used so."
    ),
    features=(
        category("gender", "The customer's gender.", "Female", "Male"),
        flag("SeniorCitizen", "Whether 65 or older."),
        flag("Partner", "Whether there is a partner."),
        flag("Dependents", "Whether there are dependents."),
        number("tenure", "Months with the company."),
        flag("PhoneService", "Whether there is a telephone."),
        category("MultipleLines", "Whether there is more than one line.", "No", "No phone service", "Yes"),
        category("InternetService", "How the customer is connected.", "No", "DSL", "Fiber optic"),
        *(category(name, "Whether the customer has it.", *_WITH_INTERNET) for name in _SERVICES),
        category("Contract", "How long the contract binds.", *_CONTRACTS),
        flag("PaperlessBilling", "Whether bills come without paper."),
        category("PaymentMethod", "How bills are paid.", *_PAYMENTS),
        number("MonthlyCharges", "Charges of the last month, in dollars."),
        number("TotalCharges", "All charges so far, in dollars; none at first.", missing="impute"),
    ),
    imputed={"TotalCharges": 0.0},
    target=Label(("Churn",), ("stays", "leaves")),
    unused=("customerID",),
    forest={"n_estimators": 256, "max_features": "sqrt", "min_samples_leaf": 30, "criterion": "entropy"},
    generate=generate,
    generated_rows=7_000,
    at_stake="contract",
)
