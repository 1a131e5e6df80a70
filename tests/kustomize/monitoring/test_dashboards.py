"""What the dashboards are, before anybody sees data in them."""

import re
import subprocess

import pytest
import yaml

NAMES = ["capacity", "drift", "model", "service"]


@pytest.fixture(params=NAMES)
def dashboard(request, dashboards):
    assert sorted(dashboards) == NAMES
    return dashboards[request.param]


def test_panels_lie_beside_each_other_without_a_gap(dashboard):
    cells = []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells += [
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
    assert len(cells) == 24 * (1 + max(y for _, y in cells))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_each_panel_says_what_it_shows_in_which_unit(dashboard):
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(set(titles)) == len(titles)
    for panel in dashboard["panels"]:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters) > 0
        if panel["type"] in ("timeseries", "state-timeline", "bargauge"):
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_every_source_and_every_choice_is_a_variable(dashboard):
    variables = [each["name"] for each in dashboard["templating"]["list"]]
    assert variables[:2] == ["datasource", "namespace"]
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval", "__range", "1"}
            assert used <= set(variables)
            assert "namespace" in used, target["expr"]
    for each in dashboard["templating"]["list"][1:]:
        assert (each["includeAll"], each["multi"]) == (True, True)


def test_what_is_asked_is_promql(promtool, dashboards, ask, tmp_path):
    rules = [
        {"record": f"checked:{number}", "expr": ask(dashboard, target["expr"])}
        for dashboard in dashboards.values()
        for number, target in enumerate(each for panel in dashboard["panels"] for each in panel["targets"])
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "checked", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
