"""What the client's tests share: rows whose scores are known."""

import csv
import io
import json

import pytest


@pytest.fixture(scope="session")
def names(fraud_bundle):
    """Return the features' names, in order."""
    return [
        feature["name"] for feature in json.loads((fraud_bundle / "manifest.json").read_text())["features"]
    ]


@pytest.fixture(scope="session")
def golden_rows(fraud_bundle):
    """Return the bundle's golden rows: values, probability and label as the trained forest gave them."""
    rows = [json.loads(line) for line in (fraud_bundle / "golden.jsonl").read_text().splitlines()]
    return [{**row, "values": list(row["record"].values())} for row in rows]


@pytest.fixture(scope="session")
def csv_of(names):
    """Return a function that makes a CSV file of lists of values, with the published header."""

    def text(rows) -> str:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*names, "Class"])
        writer.writerows([*values, 0] for values in rows)
        return stream.getvalue()

    return text
