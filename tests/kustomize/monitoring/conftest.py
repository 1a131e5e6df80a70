"""What tests of kustomize/monitoring share."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MONITORING = Path(__file__).parents[3] / "kustomize" / "monitoring"


@pytest.fixture(scope="session")
def dashboards() -> dict[str, Any]:
    """Return the dashboards, by their file's name."""
    return {
        file.stem: json.loads(file.read_text())
        for file in sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
    }


@pytest.fixture(scope="session")
def program() -> Callable[[str, str], str]:
    """Return a function that finds a program; the test is skipped where it is not installed."""

    def find(name: str, package: str) -> str:
        found = shutil.which(name)
        if not found:
            pytest.skip(f"{name} is not on PATH (apt-get install {package})")
        return found

    return find


@pytest.fixture(scope="session")
def promtool(program: Callable[[str, str], str]) -> str:
    """Return the program that checks Prometheus' files."""
    return program("promtool", "prometheus")


def ask(dashboard: dict[str, Any], expression: str, *, rate_interval: str = "4s", range_: str = "1m") -> str:
    """Return what Grafana makes of a panel's expression and sends, with everything chosen."""
    variables = {each["name"]: each.get("allValue", "") for each in dashboard["templating"]["list"]}
    variables |= {"__rate_interval": rate_interval, "__range": range_}
    return re.sub(r"\$(\w+)", lambda match: variables.get(match[1], match[0]), expression)


@pytest.fixture(scope="session", name="ask")
def _ask() -> Callable[[dict[str, Any], str], str]:
    """Return a function that makes of a panel's expression what Grafana sends, with everything chosen."""
    return ask
