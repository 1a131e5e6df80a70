"""The command forest-drift: its reports, its exit status, and what it makes of odd input."""

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_bundle import bundle
from model_export import recipe
from model_export.drift import rows
from model_export.drift.__main__ import main

Table = list[list[str]]


def generated(model: str, count: int, seed: int = 1) -> Table:
    """Return a file's lines: rows of the built-in data, which the bundle has not seen."""
    columns = recipe.find(model).generate(np.random.default_rng(seed), count)
    cells = zip(*([_cell(value) for value in column.tolist()] for column in columns.values()), strict=True)
    return [list(columns), *map(list, cells)]


def _cell(value: object) -> str:
    return "" if isinstance(value, float) and math.isnan(value) else str(value)


def written(path: Path, lines: Table) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


def changed(lines: Table, column: str, change: Callable[[str], str], every: int = 1) -> Table:
    """Return lines with one column changed, in every so many rows."""
    place = lines[0].index(column)
    return [
        [*line[:place], change(line[place]), *line[place + 1 :]] if number and number % every == 0 else line
        for number, line in enumerate(lines)
    ]


@pytest.fixture(scope="session")
def churn(fraud_export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models folder with churn 1.0.0: numbers, categories, flags, and what may be missing."""
    made = recipe.find("churn")
    small = replace(made, forest={**made.forest, "n_estimators": 16}, generated_rows=6_000)
    return fraud_export(small, models=tmp_path_factory.mktemp("drift") / "models").folder.parents[1]


@pytest.fixture
def run(churn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Return a function that runs the command on lines, or on a file: exit status, output, errors."""

    def call(data: Table | Path, *flags: str, model: str = "churn") -> tuple[int, str, str]:
        path = data if isinstance(data, Path) else written(tmp_path / "rows.csv", data)
        status = main([model, str(path), "--models", str(churn), *flags])
        captured = capsys.readouterr()
        assert captured.err.count("\n") <= 1 or path.is_dir()
        return status, captured.out, captured.err

    return call


def of(document: str) -> dict[str, dict]:
    """Return what a JSON report says of each feature and of the score."""
    return {each["name"]: each for each in json.loads(document)["compared"]}


def test_rows_like_those_of_training_have_not_drifted(run):
    status, out, err = run(generated("churn", 2_000))
    assert (status, err) == (0, "")
    assert out.startswith("churn 1.0.0, rows.csv: 2000 rows, 0 that a server would refuse\nno drift\n")
    assert "not used: customerID, Churn" in out


def test_a_shifted_number_is_found_and_named(run):
    lines = changed(generated("churn", 2_000), "MonthlyCharges", lambda cell: str(float(cell) + 30))
    status, out, err = run(lines, "--format", "json")
    assert (status, err) == (1, "")
    report = json.loads(out)
    assert (report["status"], report["rows"], report["refused"]) == (1, 2_000, 0)
    assert report["verdict"].startswith("drift: MonthlyCharges")
    found = of(out)["MonthlyCharges"]
    assert found["level"] == "great"
    assert found["psi"] > 0.25 > found["chance"]
    assert found["jensen_shannon"] is None
    assert sum(each["rows"] for each in found["bins"]) == 2_000
    assert sum(each["reference"] for each in found["bins"]) == 4_800
    assert {"none"} == {
        each["level"] for name, each in of(out).items() if name not in {"MonthlyCharges", "score"}
    }


def test_a_feature_that_is_ignored_is_told_and_decides_nothing(run):
    lines = changed(generated("churn", 2_000), "gender", lambda cell: "Male")
    assert run(lines)[0] == 1
    status, out, _ = run(lines, "--ignore", "gender", "--format", "json")
    assert status == 0
    assert (of(out)["gender"]["level"], of(out)["gender"]["ignored"]) == ("great", True)
    status, _, err = run(lines, "--ignore", "Gender")
    assert (status, err) == (2, "forest-drift: --ignore Gender: churn has no such feature\n")


def test_unknown_and_missing_values_count_and_their_rows_have_no_score(run):
    lines = changed(generated("churn", 2_000), "Contract", lambda cell: "Weekly", every=10)
    lines = changed(lines, "PaymentMethod", lambda cell: " ", every=5)
    lines = changed(lines, "SeniorCitizen", lambda cell: "perhaps", every=20)
    status, out, _ = run(lines, "--format", "json")
    assert status == 1
    found = of(out)
    assert json.loads(out)["refused"] == 400
    assert found["score"]["rows"] == 1_600
    assert found["Contract"]["unknown"] == {"Weekly": 200}
    assert {"bin": "unknown", "reference": 0, "rows": 200} in found["Contract"]["bins"]
    assert found["SeniorCitizen"]["unknown"] == {"perhaps": 100}
    assert {"bin": "missing", "reference": 0, "rows": 400} in found["PaymentMethod"]["bins"]
    assert [found[name]["level"] for name in ("Contract", "PaymentMethod")] == ["great", "great"]
    text = run(lines)[1]
    assert "Contract: unknown: 'Weekly' 200" in text


def test_a_missing_value_that_the_model_knows_is_no_refusal(run):
    # A customer who has just come has no total.
    lines = changed(generated("churn", 2_000), "TotalCharges", lambda cell: "", every=2)
    status, out, _ = run(lines, "--format", "json")
    assert status == 1
    assert json.loads(out)["refused"] == 0
    assert of(out)["TotalCharges"]["level"] == "great"
    assert of(out)["score"]["rows"] == 2_000


def test_the_scores_are_the_bundles_own(run, churn: Path, tmp_path: Path):
    path = written(tmp_path / "rows.csv", generated("churn", 1_000))
    loaded = bundle.load(churn / "churn" / "1.0.0")
    scores = loaded.session.score(rows.read(path, loaded.manifest).matrix)
    found = of(run(path, "--format", "json")[1])["score"]["bins"]
    ends = {each["bin"]: each["rows"] for each in found}
    assert ends["0.05 to 0.1"] == int(((scores >= 0.05) & (scores < 0.1)).sum())
    assert sum(ends.values()) == 1_000


def test_too_few_rows_have_a_status_of_their_own(run):
    status, out, err = run(generated("churn", 20), "--format", "json")
    assert (status, err) == (3, "")
    report = json.loads(out)
    assert report["verdict"].startswith("too few rows to tell of ")
    needed = int(re.search(r": (\d+) are needed", report["verdict"])[1])
    assert run(generated("churn", needed))[0] == 0
    # Few rows may be enough, where all of them are somewhere else.
    few = changed(generated("churn", 30), "MonthlyCharges", lambda cell: "9000")
    assert run(few)[0] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "rows.csv: empty: the first line must name the columns"),
        ("{header}\n", "rows.csv: no rows below the header"),
        ("gender,tenure\nMale,1\n", "rows.csv:1: the header lacks SeniorCitizen, Partner, "),
        ("{header},gender\n{row},Male\n", "rows.csv:1: the header names gender twice"),
        ("{header}\n{row},1\n", "rows.csv:2: it has 22 values, but the header has 21 columns"),
        ("{header}\n{row}\n\n{bad}\n", "rows.csv:4: column tenure: 'n.a.' is no number"),
    ],
)
def test_a_file_that_is_no_table_of_the_model_is_refused(run, tmp_path: Path, content: str, message: str):
    header, row = generated("churn", 1)
    bad = [*row[:5], "n.a.", *row[6:]]
    parts = {"header": header, "row": row, "bad": bad}
    path = tmp_path / "rows.csv"
    path.write_text(content.format(**{name: ",".join(cells) for name, cells in parts.items()}))
    status, out, err = run(path)
    assert (status, out) == (2, "")
    assert err.startswith("forest-drift: ")
    assert message in err


def test_other_wrong_usage(run, tmp_path: Path, churn: Path):
    status, _, err = run(tmp_path / "absent.csv")
    assert (status, "absent.csv: No such file" in err) == (2, True)
    status, _, err = run(generated("churn", 1), model="chum")
    assert (status, err.startswith("forest-drift: chum is no bundle, and ")) == (2, True)
    status, _, err = run(tmp_path)
    assert (status, "name one for its reports by --output" in err) == (2, True)
    status, _, err = run(generated("churn", 1), "--format", "html", "--format", "json")
    assert (status, "one file's report has one --format" in err) == (2, True)
    status, _, err = run(generated("churn", 1), "--output", str(tmp_path / "absent" / "report.txt"))
    assert (status, "No such file or directory" in err) == (2, True)
    with pytest.raises(SystemExit) as caught:
        main(["churn"])
    assert caught.value.code == 2


def test_a_bundle_that_was_changed_is_refused(run, churn: Path, tmp_path: Path):
    copy = tmp_path / "churn" / "1.0.0"
    shutil.copytree(churn / "churn" / "1.0.0", copy)
    (copy / bundle.REFERENCE).write_bytes(b"{}")
    status, _, err = run(generated("churn", 1), model=str(copy))
    assert status == 2
    assert "the bundle does not load: reference.json: its digest is" in err


def test_the_highest_version_of_a_model_is_meant(run, churn: Path, tmp_path: Path, capsys):
    models = tmp_path / "models"
    for version in ("9.0.0", "10.0.0", "10.0.0-draft"):
        folder = models / "churn" / version
        shutil.copytree(churn / "churn" / "1.0.0", folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "version": version}))
    assert (
        main(["churn", str(written(tmp_path / "a.csv", generated("churn", 500))), "--models", str(models)])
        == 0
    )
    assert capsys.readouterr().out.startswith("churn 10.0.0, ")


def test_the_page_needs_nothing_else_and_shows_what_has_drifted(run, tmp_path: Path):
    lines = changed(generated("churn", 2_000), "MonthlyCharges", lambda cell: str(float(cell) + 30))
    lines = changed(lines, "Contract", lambda cell: "<script>alert(1)</script>", every=10)
    place = tmp_path / "report.html"
    status, out, err = run(lines, "--format", "html", "--output", str(place))
    assert (status, out) == (1, "")
    assert err.startswith("forest-drift: rows.csv: drift: ")
    page = place.read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("data:image/svg+xml") >= 9
    for name in ("MonthlyCharges", "Contract"):
        assert f'alt="Shares of the bins of {name}"' in page
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folders_files_get_a_report_each_once(run, tmp_path: Path):
    folder, reports = tmp_path / "rows", tmp_path / "reports"
    folder.mkdir()
    written(folder / "monday.csv", generated("churn", 500))
    written(folder / "tuesday.csv", changed(generated("churn", 500), "tenure", lambda cell: "1"))
    (folder / "wednesday.csv").write_text("nothing\n")
    (folder / ".thursday.csv").write_text("not yet whole")
    (folder / "notes.txt").write_text("no rows")
    flags = ["--output", str(reports), "--format", "html", "--format", "json"]
    status, _, err = run(folder, *flags)
    # What cannot be read is worse than drift, and holds up nothing.
    assert status == 2
    assert [line.split(": ")[1] for line in err.splitlines()][:2] == ["monday.csv", "tuesday.csv"]
    assert "wednesday.csv:1: the header lacks" in err
    made = {f"{day}.csv.{kind}" for day in ("monday", "tuesday") for kind in ("html", "json")}
    assert {path.name for path in reports.iterdir()} == made
    (folder / "wednesday.csv").unlink()
    assert run(folder, *flags) == (0, "", "")
    (reports / "tuesday.csv.json").unlink()
    assert run(folder, *flags)[0] == 1
    assert {path.name for path in reports.iterdir()} == made


def test_rows_as_published_are_prepared_as_the_recipe_does(four_models: Path, tmp_path: Path, capsys):
    path = written(tmp_path / "hour.csv", generated("demand", 3_000))
    status = main(["demand", str(path), "--models", str(four_models), "--format", "json"])
    report = json.loads(capsys.readouterr().out)
    assert status in (0, 1)
    # Rows without four weeks of past are left out.
    assert 2_000 < report["rows"] < 3_000 - 4 * 7 * 20
    assert of(json.dumps(report))["cnt_usual"]["rows"] == report["rows"]


def test_other_names_of_columns_are_known(four_models: Path, tmp_path: Path, capsys):
    lines = generated("credit", 1_000)
    lines[0] = ["PAY_1" if name == "PAY_0" else name for name in lines[0]]
    path = written(tmp_path / "rows.csv", lines)
    assert main(["credit", str(path), "--models", str(four_models)]) == 0
    assert "not used: ID, default.payment.next.month" in capsys.readouterr().out


def audited(folder: Path, lines: Table, every: Callable[[int], dict] = lambda number: {}) -> Path:
    """Write rows as a server's audit log has them, with changes of each record."""
    manifest = json.loads(next((folder / "models").glob("churn/*/manifest.json")).read_bytes())
    kinds = {each["name"]: each["type"] for each in manifest["features"]}
    values = {"number": float, "flag": lambda cell: cell in {"Yes", "1"}, "category": str}
    place = folder / "audit"
    place.mkdir(exist_ok=True)
    with (place / f"2026-{len(list(place.iterdir()))}.jsonl").open("w") as file:
        for number, line in enumerate(lines[1:]):
            cells = dict(zip(lines[0], line, strict=True))
            inputs = {
                name: values[kind](cells[name]) if cells[name] else None for name, kind in kinds.items()
            }
            time = f"2026-01-01T00:00:{number % 60:02}.000000Z"
            record = {"time": time, "model": "churn", "version": "1.0.0", "inputs": inputs}
            file.write(json.dumps(record | every(number)) + "\n")
    return place


@pytest.fixture
def audit(churn: Path, tmp_path: Path) -> Callable[..., Path]:
    (tmp_path / "models").symlink_to(churn)
    return lambda *arguments, **more: audited(tmp_path, *arguments, **more)


def test_an_audit_log_is_read_by_model_and_version(run, audit, tmp_path, monkeypatch):
    lines = generated("churn", 2_000)
    drifted = changed(lines, "MonthlyCharges", lambda cell: str(float(cell) + 30))
    folder = audit(lines)
    audit(drifted, lambda number: {"version": "2.0.0"} if number % 2 else {"model": "other"})
    (folder / "still.jsonl.open").write_text("{")
    status, out, _ = run(folder, "--audit")
    assert status == 0
    first = "churn 1.0.0, audit log of 2026-01-01T00:00Z to 2026-01-01T00:00Z: 2000 rows, 0 that a server"
    assert out.startswith(first)
    reports = tmp_path / "reports"
    status, out, err = run(
        folder, "--audit", "--output", str(reports), "--format", "html", "--format", "json"
    )
    assert (status, out, err.count("\n")) == (0, "", 1)
    assert sorted(re.sub(r"\d{8}T\d{6}", "T", path.name) for path in reports.iterdir()) == [
        "audit-TZ.html",
        "audit-TZ.json",
    ]
    # The same rows by CSV come to the same.
    (made,) = reports.glob("*.json")
    by_file = of(run(lines, "--format", "json")[1])
    assert of(made.read_text()) == by_file
    monkeypatch.setattr(rows, "_MOST_RECORDS", 500)
    status, out, _ = run(folder, "--audit")
    assert out.startswith(
        "churn 1.0.0, audit log of 2026-01-01T00:00Z to 2026-01-01T00:00Z, one in 2 of 2000: 1000"
    )


def test_an_audit_log_by_time_and_what_is_none(run, audit):
    folder = audit(generated("churn", 50))
    complaint = f"forest-drift: {folder}: no record, within 24 hours, of churn 1.0.0 with its inputs\n"
    assert run(folder, "--audit", "--hours", "24") == (2, "", complaint)
    # Of a server that has run for less than an hour, say.
    still = folder / "still.jsonl.open"
    still.touch()
    complaint = complaint.replace("\n", " in closed files; 1 are still open\n")
    assert run(folder, "--audit", "--hours", "24") == (2, "", complaint)
    still.unlink()
    lines = changed(generated("churn", 1_000), "MonthlyCharges", lambda cell: str(float(cell) + 30))
    audit(lines, lambda number: {"time": "2999-01-01T00:00:00.000000Z"})
    status, out, _ = run(folder, "--audit", "--hours", "24")
    assert (status, out.split("\n")[1].startswith("drift: ")) == (1, True)
    assert ": 1000 rows" in out
    assert run(folder, "--hours", "24")[0] == 2
    for hours in ("nan", "inf", "0", "-1", "1e9"):
        status, _, err = run(folder, "--audit", f"--hours={hours}")
        assert (status, err.startswith("forest-drift: --hours")) == (2, True)
    (folder / "2027.jsonl").write_text('{"model": "churn"}\n')
    status, _, err = run(folder, "--audit")
    assert (status, err) == (2, f"forest-drift: {folder}/2027.jsonl:1: no record of an audit log\n")
    (folder / "2027.jsonl").unlink()
    # Redacted from some time on.
    last = max(folder.iterdir())
    last.write_text(last.read_text().replace('"tenure"', '"other"'))
    status, _, err = run(folder, "--audit")
    assert (status, err) == (2, f"forest-drift: {folder}: records have no tenure, which may be redacted\n")
