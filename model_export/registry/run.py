"""What a run tells of a bundle: all of it is in the manifest."""

import getpass
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from model_bundle import created
from model_bundle.manifest import Manifest

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param

# Tags of runs and of versions: gitops asks by the same names.
MODEL = "forest.model"
VERSION = "forest.version"
DIGEST = "forest.bundle_digest"
DATA_DIGEST = "forest.data_digest"
CREATED = "forest.created"


def tags(manifest: Manifest, bundle_digest: str, made: int | None) -> dict[str, str]:
    """Return what a run and a version are found by; and when the bundle was made, if that is known."""
    found = {
        MODEL: manifest.model,
        VERSION: manifest.version,
        DIGEST: bundle_digest,
        DATA_DIGEST: manifest.lineage.data_digest,
    }
    return found if made is None else found | {CREATED: created.to_text(made)}


def user() -> dict[str, str]:
    """Return who runs this, as MLflow itself notes it; nothing where the system knows no name."""
    with suppress(KeyError, OSError, ImportError):
        return {"mlflow.user": getpass.getuser()}
    return {}


def parameters(manifest: Manifest) -> "list[Param]":
    """Return how a bundle was made."""
    from mlflow.entities import Param  # noqa: PLC0415

    lineage = manifest.lineage
    told: dict[str, object] = {
        "recipe": lineage.recipe,
        "data": lineage.data,
        "data_digest": lineage.data_digest,
        "rows": lineage.rows,
        "seed": lineage.seed,
        "task": manifest.task,
    }
    told |= lineage.parameters
    told |= {f"library.{name}": version for name, version in lineage.libraries.items()}
    if manifest.interval is None:
        told["threshold"] = manifest.threshold
    return [Param(name, str(value)) for name, value in told.items()]


def metrics(manifest: Manifest) -> "list[Metric]":
    """Return each metric, and the ends of its confidence interval."""
    from mlflow.entities import Metric  # noqa: PLC0415

    now = int(datetime.now(UTC).timestamp() * 1000)
    return [
        Metric(f"{name}{end}", value, now, 0)
        for name, metric in manifest.metrics.items()
        for end, value in (("", metric.value), ("_low", metric.low), ("_high", metric.high))
    ]
