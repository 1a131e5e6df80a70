"""The recipes that come along: what they take, and what they must not look at."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_bundle import bundle, golden
from model_export import recipe, table
from model_export.export import export
from model_export.recipe import Preparation, Recipe, RecipeError
from model_export.split import split
from model_export.table import TableError

# What is known only when it is too late, names the row, or is the target in other words.
LEAKS = {"ID", "customerID", "instant", "dteday", "casual", "registered", "cnt", "Class", "Churn", "class"}
PUBLISHED = {
    "credit": (
        "ID,LIMIT_BAL,SEX,EDUCATION,MARRIAGE,AGE,PAY_0,PAY_2,PAY_3,PAY_4,PAY_5,PAY_6,BILL_AMT1,BILL_AMT2,"
        "BILL_AMT3,BILL_AMT4,BILL_AMT5,BILL_AMT6,PAY_AMT1,PAY_AMT2,PAY_AMT3,PAY_AMT4,PAY_AMT5,PAY_AMT6,"
        "default.payment.next.month"
    ),
    "churn": (
        "customerID,gender,SeniorCitizen,Partner,Dependents,tenure,PhoneService,MultipleLines,InternetService,"
        "OnlineSecurity,OnlineBackup,DeviceProtection,TechSupport,StreamingTV,StreamingMovies,Contract,"
        "PaperlessBilling,PaymentMethod,MonthlyCharges,TotalCharges,Churn"
    ),
    "demand": (
        "instant,dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed,"
        "casual,registered,cnt"
    ),
}


def write(path: Path, found: Recipe, rows: int = 900) -> list[list[str]]:
    """Write generated data under the published header; return the lines."""
    columns = found.generate(np.random.default_rng(1), rows)
    header = PUBLISHED[found.name].split(",")
    made = len(columns[found.target.column])
    cells = [
        ["" if value in (None, "nan") else value for value in map(str, columns[name].tolist())]
        if name in columns
        else ["1"] * made
        for name in header
    ]
    lines = [header, *map(list, zip(*cells, strict=True))]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return lines


@pytest.mark.parametrize("name", recipe.names())
def test_no_feature_is_a_leak(name: str):
    found = recipe.find(name)
    assert not LEAKS & {feature.name for feature in found.features}
    assert not {"duration"} & {feature.name for feature in found.features}


@pytest.mark.parametrize("name", PUBLISHED)
def test_reads_the_published_header_and_what_is_generated(name: str, tmp_path: Path):
    found = recipe.find(name)
    lines = write(tmp_path / "data.csv", found)
    read = table.read(tmp_path / "data.csv", found)
    assert read.rows.shape[1] == len(found.features)
    assert len(read.rows) == len(lines) - 1 if found.preparation is None else len(read.rows) > 100
    made = table.generate(replace(found, generated_rows=900), 1)
    assert np.array_equal(read.rows, made.rows, equal_nan=True)
    assert np.array_equal(read.targets, made.targets)


def test_a_number_outside_of_what_is_allowed_is_refused_in_the_data_too(tmp_path: Path):
    found = recipe.find("demand")
    lines = write(tmp_path / "data.csv", found)
    place = lines[0].index("weekday")
    lines[-1][place] = "7"
    (tmp_path / "data.csv").write_text("\n".join(",".join(line) for line in lines))
    with pytest.raises(TableError, match="weekday: 7 is outside the range allowed, 0 to 6"):
        table.read(tmp_path / "data.csv", found)


@pytest.mark.parametrize("label", ["class", "default payment next month", "default", "Y"])
def test_credit_takes_each_name_that_the_label_is_published_under(label: str, tmp_path: Path):
    found = recipe.find("credit")
    write(tmp_path / "data.csv", found)
    text = (tmp_path / "data.csv").read_text()
    plain = table.read(tmp_path / "data.csv", found)
    (tmp_path / "data.csv").write_text(text.replace("default.payment.next.month", label, 1))
    assert np.array_equal(table.read(tmp_path / "data.csv", found).targets, plain.targets)


def test_credit_takes_the_columns_numbered_as_the_repository_gives_them(tmp_path: Path):
    found = recipe.find("credit")
    lines = write(tmp_path / "data.csv", found)
    plain = table.read(tmp_path / "data.csv", found)
    header = ["ID", *(f"X{place}" for place in range(1, 24)), "Y"]
    (tmp_path / "data.csv").write_text("\n".join(",".join(line) for line in [header, *lines[1:]]))
    assert np.array_equal(table.read(tmp_path / "data.csv", found).rows, plain.rows)
    (tmp_path / "data.csv").write_text(
        "\n".join(",".join(line) for line in lines).replace("PAY_0", "PAY_1", 1)
    )
    assert np.array_equal(table.read(tmp_path / "data.csv", found).rows, plain.rows)


@pytest.mark.parametrize(
    ("name", "column", "text", "message"),
    [
        ("churn", "Contract", "Weekly", "'Weekly' is none of 'Month-to-month', 'One year', 'Two year'"),
        ("churn", "Contract", " ", "blank, and a value is needed"),
        ("churn", "Partner", "maybe", "'maybe' is no flag: true, yes or 1; false, no or 0"),
        ("churn", "tenure", "long", "'long' is no number"),
        ("churn", "tenure", "", "blank, and a value is needed"),
        ("churn", "TotalCharges", "n.a.", "'n.a.' is no number"),
        ("churn", "Churn", "perhaps", "'perhaps' is no number"),
        ("credit", "SEX", "3", "'3' is none of '1', '2'"),
        ("demand", "dteday", "31.01.2011", "'31.01.2011' is no date as 2011-01-31"),
        ("demand", "dteday", "", "blank, and a value is needed"),
        ("demand", "cnt", "many", "'many' is no number"),
    ],
)
def test_a_cell_that_is_not_what_its_column_holds_is_named(
    name: str, column: str, text: str, message: str, tmp_path: Path
):
    found = recipe.find(name)
    lines = write(tmp_path / "data.csv", found, 800)
    lines[5][lines[0].index(column)] = text
    (tmp_path / "data.csv").write_text("\n".join(",".join(line) for line in lines))
    with pytest.raises(TableError) as caught:
        table.read(tmp_path / "data.csv", found)
    assert str(caught.value) == f"{tmp_path}/data.csv:6: column {column}: {message}"


def test_a_value_below_the_least_is_refused(tmp_path: Path):
    found = recipe.find("demand")
    lines = write(tmp_path / "data.csv", found)
    lines[-1][-1] = "-3"
    (tmp_path / "data.csv").write_text("\n".join(",".join(line) for line in lines))
    with pytest.raises(TableError, match=r"data\.csv: cnt goes down to -3, below 0"):
        table.read(tmp_path / "data.csv", found)


def test_demand_needs_a_past_and_no_hour_twice(tmp_path: Path):
    found = recipe.find("demand")
    lines = write(tmp_path / "data.csv", found, 600)
    with pytest.raises(TableError, match="too few rows: none of them has all of its past in the file"):
        table.read(tmp_path / "data.csv", found)
    (tmp_path / "data.csv").write_text("\n".join(",".join(line) for line in [*lines, lines[-1]]))
    with pytest.raises(TableError, match=r"data.csv: 2011-01-\d\d, hour \d+, is there twice"):
        table.read(tmp_path / "data.csv", found)


def test_demand_is_tested_on_what_comes_last():
    found = replace(recipe.find("demand"), generated_rows=1_500)
    made = table.generate(found, 0)
    parts = split(made, found, 0)
    assert np.array_equal(np.concatenate([parts.train.rows, parts.test.rows]), made.rows)
    assert len(parts.test.rows) == len(made.rows) // 5
    assert np.array_equal(split(made, found, 1).test.rows, parts.test.rows)


def test_golden_rows_prove_each_rule_of_each_model(four_models: Path):
    for name in ("credit", "churn", "demand"):
        folder = four_models / name / "1.0.0"
        manifest, _ = bundle.read_manifest(folder)
        rows = golden.from_bytes((folder / bundle.GOLDEN).read_bytes())
        for feature in manifest.features:
            values = {row.record[feature.name] for row in rows}
            if feature.type != "number":
                assert values - {None} == set(feature.categories or (False, True))
            assert (None in values) == (feature.missing == "impute")
    churn = golden.from_bytes((four_models / "churn/1.0.0" / bundle.GOLDEN).read_bytes())
    lacking = [row for row in churn if row.record["TotalCharges"] is None]
    # Real ones, who have just come, are among them.
    assert any(row.record["tenure"] == 0 for row in lacking)
    assert {row.kind for row in lacking} >= {"missing"}


def test_a_blank_total_scores_as_the_one_it_was_trained_as(four_models: Path):
    loaded = bundle.load(four_models / "churn" / "1.0.0")
    rows = golden.from_bytes((four_models / "churn/1.0.0" / bundle.GOLDEN).read_bytes())
    lacking = [row for row in rows if row.record["TotalCharges"] is None]
    assert len(lacking) > 20
    for row in lacking:
        loaded.encoder.encode_record({**row.record, "TotalCharges": 0.0})
        assert loaded.decision.outcome(loaded.session.score_row()) == row.outcome
    loaded.session.close()


def test_the_card_of_a_regression_tells_horizon_weather_and_coverage(four_models: Path):
    page = (four_models / "demand" / "1.0.0" / bundle.MODEL_CARD).read_text()
    manifest, _ = bundle.read_manifest(four_models / "demand" / "1.0.0")
    assert "The horizon is an hour" in page
    assert "observed an hour before" in page
    assert "On the test part it did so in " + f"{100 * manifest.metrics['coverage'].value:.2f} %" in page
    assert "Boström and Johansson" in page
    assert page.count("<img") == page.count('src="data:image/svg+xml;base64,') == 3
    assert "Threshold" not in page
    assert "must not decide about anybody's plans" in page


def test_the_card_of_a_model_with_categories_shows_them_and_what_is_imputed(four_models: Path):
    page = (four_models / "churn" / "1.0.0" / bundle.MODEL_CARD).read_text()
    assert "Month-to-month, One year, Two year" in page
    assert "impute 0.0" in page
    assert "With each feature missing that may be" in page


def nothing(random: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    raise KeyError("rows")


def uneven(random: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    return {"Age": np.zeros(3), "Class": np.zeros(2)}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fraud", {"generate": nothing}, r"generate \(test_recipes.py:\d+\): KeyError: 'rows'"),
        (
            "fraud",
            {"generate": uneven},
            r"generate \(test_recipes.py\): ValueError: zip\(\) argument 2 is shorter",
        ),
        (
            "churn",
            {"forest": {"n_estimators": 4, "max_features": "few"}},
            "forest: InvalidParameterError: The 'max_",
        ),
        ("churn", {"forest": {"n_estimators": 4, "leaves": 3}}, "forest: TypeError: .* argument 'leaves'"),
        (
            "demand",
            {"preparation": Preparation({}, lambda columns: columns)},
            "prepare: it makes no column hr, ",
        ),
        (
            "demand",
            {"preparation": Preparation({}, lambda columns: {}["a"])},
            r"prepare \(.*\): KeyError: 'a'",
        ),
    ],
)
def test_a_recipes_own_fault_is_told_in_one_line(name: str, changes: dict, message: str, tmp_path: Path):
    found = recipe.find(name)
    if "preparation" in changes:
        columns = {"unused": (), "generate": lambda random, rows: {"cnt": np.ones(3)}}
        changes = {**changes, **columns}
    found = replace(found, generated_rows=300, **changes)
    with pytest.raises(RecipeError) as caught:
        export(found, None, models=tmp_path, version="1.0.0", seed=0, say=lambda line: None)
    assert re.match(f"recipe {name}: {message}", str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
