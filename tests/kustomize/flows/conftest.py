"""The judge of flows: cyclonus, which knows what NetworkPolicies mean, asked by main.go."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import go_program


@pytest.fixture(scope="session")
def judge() -> Callable[..., set[tuple[int, int, int]]]:
    """Return a function that says which of these pairs of peers may talk, on which of these ports."""
    binary = go_program.build(
        Path(__file__).parent, "flows", "with it (1.22 or newer) the judge of the policies is built"
    )

    def run(**question: Any) -> set[tuple[int, int, int]]:
        done = subprocess.run(
            [binary], input=json.dumps(question), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return {tuple(flow) for flow in json.loads(done.stdout)}

    return run
