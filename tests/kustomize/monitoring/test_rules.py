"""The rules: each alert fires and does not, has a page that says what to do, and is told to somebody."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "kustomize" / "monitoring"
RUNBOOKS = ROOT / "docs" / "runbooks"
FILES = sorted((MONITORING / "rules").glob("*.yaml"))
TESTS = Path(__file__).parent / "rules"
GROUPS = [group for file in FILES for group in yaml.safe_load(file.read_text())["groups"]]
ALERTS = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]
NAMES = sorted({alert["alert"] for alert in ALERTS})
# What each page has, in this order.
SECTIONS = ["What it means", "Impact", "Look", "Do", "Verify"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_alerts_fire_and_do_not(promtool, file):
    tests = TESTS / file.name
    done = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_to_fire():
    fired = set()
    for file in TESTS.glob("*.yaml"):
        for test in yaml.safe_load(file.read_text())["tests"]:
            for each in test.get("alert_rule_test", []):
                fired |= {
                    (each["alertname"], alert["exp_labels"]["severity"]) for alert in each["exp_alerts"]
                }
            for each in test.get("promql_expr_test", []):
                for sample in each["exp_samples"]:
                    if sample["labels"].startswith("ALERTS"):
                        labels = dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"]))
                        assert labels["alertstate"] == "firing"
                        fired.add((labels["alertname"], labels["severity"]))
    assert fired == {(alert["alert"], alert["labels"]["severity"]) for alert in ALERTS}


def test_prometheus_takes_them(promtool):
    done = subprocess.run([promtool, "check", "rules", *FILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert['alert']}-{alert['labels']['severity']}")
def test_an_alert_says_what_it_is_and_where_its_page_is(alert):
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in ("page", "ticket")
    annotations = alert["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == (
        "{{ with $externalLabels.runbooks }}{{ . }}{{ else }}docs/runbooks{{ end }}/" + alert["alert"] + ".md"
    )
    assert len(annotations["summary"].replace("{{ with $labels.namespace }} in {{ . }}{{ end }}", "")) < 90


def test_each_alert_has_a_page_and_each_page_an_alert():
    assert sorted(file.stem for file in RUNBOOKS.glob("*.md")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_what_it_means_and_what_to_do(name):
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)", text, re.M) == SECTIONS
    for link in re.findall(r"\]\(([^)#]+\.md)(?:#[^)]*)?\)", text):
        assert (RUNBOOKS / link).resolve().is_file(), link


def test_the_guide_lists_every_alert():
    text = (ROOT / "docs" / "monitoring.md").read_text()
    listed = re.findall(r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| ([a-z, ]+) \|", text, re.M)
    assert all(name == page for name, page, _ in listed)
    severities = {
        name: ", ".join(sorted({a["labels"]["severity"] for a in ALERTS if a["alert"] == name}))
        for name in NAMES
    }
    assert {name: severity for name, _, severity in listed} == severities


def test_every_window_is_of_the_same_kind():
    rules = {rule["record"]: rule["expr"] for group in GROUPS for rule in group["rules"] if "record" in rule}
    windows = [name for name in rules if re.search(r"ratio_rate(?!5m)", name)]
    assert len(windows) == 12
    for name in windows:
        short, window = re.fullmatch(r"(.+ratio_rate)(\w+)", name).groups()
        bad, everything = rules[short + "5m"].split("\n/ ")
        assert rules[name] == f"sum_over_time({bad}[{window}])\n/ sum_over_time({everything}[{window}])"


def test_burn_alerts_are_those_of_the_workbook():
    for name, budget in (("ForestCallsFail", "0.001"), ("ForestCallsSlow", "0.01")):
        seen = {
            (alert["labels"]["severity"], *pair)
            for alert in ALERTS
            if alert["alert"] == name
            for pair in re.findall(
                r"ratio_rate(\w+) > ([\d.]+) \* " + re.escape(budget) + r"\s+and \S+ratio_rate(\w+) > \2 \* ",
                alert["expr"],
            )
        }
        assert seen == {
            ("page", "1h", "14.4", "5m"),
            ("page", "6h", "6", "30m"),
            ("ticket", "1d", "3", "2h"),
            ("ticket", "3d", "1", "6h"),
        }
