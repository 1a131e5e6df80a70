"""The forest that all servers have: the `fraud` recipe's, smaller. As a bundle, and pickled for the peers."""

import dataclasses
import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_bundle import bundle, golden
from model_bundle.encoding import Encoder
from model_export.recipes import fraud

# Peers are mostly measured with 100 trees. An exact bundle has a power of two of them.
TREES = 128
ROWS = 8_192
RECIPE = dataclasses.replace(fraud.RECIPE, forest={**fraud.RECIPE.forest, "n_estimators": TREES})
_SEED = 0
_ROOT = Path(__file__).parents[1]


class OtherForestError(RuntimeError):
    """The forest trained for the peers is not that of the bundle."""


def models() -> Path:
    """Return a models folder with the forest's bundle.

    It is kept in ``build``, and made anew when its code has changed.
    """
    sources = [_ROOT / "tests" / "requirements.txt", Path(__file__)]
    for package in ("model_bundle", "model_export"):
        sources += sorted((_ROOT / package).rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    kept = _ROOT / "build" / "benchmarks"
    folder = kept / f"models-{digest[:16]}"
    if not folder.exists():
        import joblib  # noqa: PLC0415

        from model_export.export import export  # noqa: PLC0415

        shutil.rmtree(kept, ignore_errors=True)
        making = kept / "making"
        with joblib.parallel_config("threading", n_jobs=-1):
            export(RECIPE, None, models=making, version="1.0.0", seed=_SEED, say=_say)
        making.rename(folder)
    return folder


@dataclass(frozen=True, slots=True)
class Trained:
    """The forest of a bundle, trained once more.

    Attributes
    ----------
    forest
        scikit-learn's.
    rows : ndarray of float32, shape (8192, features)
        Rows within the ranges of training.
    probabilities : ndarray of float64, shape (8192,)
        The forest's own for these rows.
    """

    forest: Any
    rows: NDArray[np.float32]
    probabilities: NDArray[np.float64]

    def pickle(self, path: Path) -> None:
        """Write the forest as who serves with scikit-learn does. Nothing of this project reads it."""
        import joblib  # noqa: PLC0415

        joblib.dump(self.forest, path)


def train(folder: Path) -> Trained:
    """Train the forest of a bundle, one of `models`, once more.

    Raises
    ------
    OtherForestError
        If its probabilities of the bundle's golden rows are not the golden ones, bit by bit.
    """
    import joblib  # noqa: PLC0415

    from model_export import split, table, training  # noqa: PLC0415

    part = split.split(table.generate(RECIPE, _SEED), RECIPE, _SEED).train
    with joblib.parallel_config("threading", n_jobs=-1):
        trained = training.train(RECIPE, part, _SEED)
    manifest, _ = bundle.read_manifest(folder)
    encoder = Encoder(manifest.features)
    rows = golden.from_bytes((folder / bundle.GOLDEN).read_bytes())
    matrix = np.empty((len(rows), len(manifest.features)), np.float32)
    for index, row in enumerate(rows):
        encoder.encode_record(row.record)
        matrix[index] = encoder.row
    if trained.scores(matrix).tolist() != [row.outcome["probability"] for row in rows]:
        raise OtherForestError(f"the forest trained here is not that of {folder}: remove build/benchmarks")
    asked = part.rows[:ROWS]
    return Trained(trained.forest, asked, trained.scores(asked))


def _say(line: str) -> None:
    print(f"benchmarks: {line}", file=sys.stderr)
