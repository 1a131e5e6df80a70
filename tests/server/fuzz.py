"""Fuzz every method by hand, guided by coverage: `make test` has no part in it.

atheris is no dependency. It needs Linux, and a Python that it has wheels for:

    python -m venv /tmp/fuzz
    /tmp/fuzz/bin/pip install -r server/requirements.txt atheris
    PYTHONPATH=.:clients/python /tmp/fuzz/bin/python tests/server/fuzz.py MODELS CORPUS -max_total_time=300

MODELS is a folder of bundles, CORPUS one that is empty at first and keeps what reached something new. An
input's first byte chooses the method. Whatever a method raises but StatusError ends the run, with the input
in a file: make it a test in tests/server/test_fuzz.py.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["server", "model_bundle"]):
    from server.admission import Admission
    from server.call import Call, Exchange, Method, Unary
    from server.health import Health
    from server.inference_service import InferenceService
    from server.model_service import ModelService
    from server.models import Models
    from server.prediction_service import PredictionService
    from server.reflection import Reflection
    from server.status import Code, StatusError

_CALL = Call(math.inf, (), lambda: "nobody")


def _methods(folder: Path, admission: Admission) -> list[Method]:
    models = Models(folder)
    models.load()
    health = Health([""])
    services = (
        PredictionService(models, admission),
        InferenceService(models, health, admission),
        ModelService(models, admission.max_batch_rows),
        health,
        Reflection([]),
    )
    every = [method for service in services for method in service.methods().values()]
    return [method for method in every if isinstance(method, (Unary, Exchange))]


def _one_input(methods: list[Method], admission: Admission) -> Callable[[bytes], None]:
    def try_one(data: bytes) -> None:
        if not data:
            return
        method = methods[data[0] % len(methods)]
        try:
            answer = method.handle(data[1:], _CALL)  # type: ignore[union-attr]
            while not isinstance(answer, bytes):
                try:
                    next(answer)
                except StopIteration as stopped:
                    answer = stopped.value
        except StatusError as error:
            if error.code is Code.INTERNAL or len(error.to_bytes()) > 8192:
                raise AssertionError(f"{error.code}: {error.message}") from error
        if admission.rows:
            raise AssertionError(f"{admission.rows} rows are left in flight")

    return try_one


def main() -> None:
    """Fuzz until something breaks, or libFuzzer's own options end it."""
    models, *options = sys.argv[1:]
    admission = Admission(100, 1_000)
    atheris.Setup([sys.argv[0], *options], _one_input(_methods(Path(models), admission), admission))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
