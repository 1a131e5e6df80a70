"""Credit default, with the schema of the UCI default of credit card clients.

The published file: I-Cheng Yeh, "Default of Credit Card Clients", UCI Machine Learning Repository, 2009.
"""

import numpy as np

from model_export.recipe import Columns, Label, Recipe, category, number

_STATES = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6")
_BILLS = tuple(f"BILL_AMT{month}" for month in range(1, 7))
_PAYMENTS = tuple(f"PAY_AMT{month}" for month in range(1, 7))
_MONTHS = ("September", "August", "July", "June", "May", "April")
_CODED = ("LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE", *_STATES, *_BILLS, *_PAYMENTS)


def generate(random: np.random.Generator, rows: int) -> Columns:
    """Make clients that look like the published ones: whoever is behind with payments stays behind.

    A client's hidden strain decides about delays, bills near the limit, small payments, and the default.
    """
    limit = (np.ceil(random.lognormal(11.7, 0.8, rows) / 10_000) * 10_000).clip(10_000, 1_000_000)
    strain = random.normal(size=rows) - 0.35 * (np.log(limit) - 11.7)
    states, bills, payments = [], [], []
    used = random.beta(0.8, 1.2, rows) * (1 + 0.3 * np.tanh(strain))
    for _ in _MONTHS:
        felt = strain + random.normal(0, 0.55, rows)
        late = np.where(felt > 1.25, 2 + (felt > 2.6), np.where(felt > 1.0, 1, 0))
        idle = random.random(rows) < 0.28
        states.append(np.where(late > 0, late, np.where(idle, random.choice([-2, -1], rows), 0)))
        bill = limit * used * random.normal(1, 0.08, rows)
        bills.append(np.rint(bill))
        paid = bill.clip(0) * random.beta(0.6, 5, rows) * (late == 0)
        payments.append(np.rint(np.where(idle & (late == 0), bill.clip(0), paid)))
    drawn = 0.75 * np.maximum(states[0], 0) + 0.35 * np.maximum(states[1], 0) + 0.3 * strain
    default = random.random(rows) < 1 / (1 + np.exp(2.0 - drawn))
    return {
        "ID": np.arange(1, rows + 1),
        "LIMIT_BAL": limit,
        "SEX": random.choice([1, 2], rows, p=[0.4, 0.6]),
        "EDUCATION": random.choice([1, 2, 3, 4, 5], rows, p=[0.35, 0.47, 0.16, 0.01, 0.01]),
        "MARRIAGE": random.choice([1, 2, 3], rows, p=[0.455, 0.535, 0.01]),
        "AGE": np.floor(21 + random.gamma(2.4, 6, rows)).clip(21, 79),
        **dict(zip(_STATES, states, strict=True)),
        **dict(zip(_BILLS, bills, strict=True)),
        **dict(zip(_PAYMENTS, payments, strict=True)),
        "default.payment.next.month": default.astype(int),
    }


RECIPE = Recipe(
    name="credit",
    description="The probability that a credit card client defaults on the next month's payment.",
    purpose=(
        "Loan origination asks how likely a client of the bank's cards is to default next month, beside "
        "what else it knows of the applicant. From the threshold on a client is labelled default; the "
        "credit decision, and its reasons, are the bank's and not the model's."
    ),
    limits=(
        "The data are one bank's clients in Taiwan in 2005, in a debt crisis: elsewhere, and later, a "
        "probability is a score and not a frequency. Sex, age, marriage and education are among the "
        "published features. In many countries the law forbids to decide on credit by some of them, and "
        "the model must then be trained without them. A client without six months of statements cannot be "
        "scored."
    ),
    features=(
        number("LIMIT_BAL", "Credit given, in New Taiwan dollars."),
        category("SEX", "1 male, 2 female.", "1", "2"),
        category(
            "EDUCATION",
            "1 graduate school, 2 university, 3 high school, 4 others; 0, 5, 6 unknown.",
            *"0123456",
        ),
        category("MARRIAGE", "1 married, 2 single, 3 others; 0 unknown.", *"0123"),
        number("AGE", "In years."),
        *(
            number(
                name,
                f"Months of delay in {month}; -2 unused, -1 paid in full, 0 paid the least amount.",
            )
            for name, month in zip(_STATES, _MONTHS, strict=True)
        ),
        *(
            number(name, f"Statement of {month}, in New Taiwan dollars.")
            for name, month in zip(_BILLS, _MONTHS, strict=True)
        ),
        *(
            number(name, f"Paid in {month}, in New Taiwan dollars.")
            for name, month in zip(_PAYMENTS, _MONTHS, strict=True)
        ),
    ),
    target=Label(
        ("default.payment.next.month", "default payment next month", "default", "class", "Y"),
        ("pays", "default"),
    ),
    aliases={"PAY_1": "PAY_0", **{f"X{place}": name for place, name in enumerate(_CODED, 1)}},
    unused=("ID",),
    forest={"n_estimators": 128, "max_features": "sqrt", "min_samples_leaf": 40, "criterion": "entropy"},
    generate=generate,
    generated_rows=10_000,
    at_stake="loan",
)
