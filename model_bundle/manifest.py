"""The manifest: everything about one version of one model that is not the graph itself.

`manifest.schema.json` beside this file describes the same for other tools. Export validates
against it; the server reads with the code below, which is stricter and needs no library.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from itertools import pairwise
from typing import Any, Literal, get_args

SCHEMA_VERSION = 1

SCORE = "score"
"""What a model's score is called beside its features: no feature may be."""

# What a manifest has for its task only.
_OF_TASK = {"binary_classification": ("labels", "threshold", "risk_levels"), "regression": ("interval",)}

Task = Literal["binary_classification", "regression"]
FeatureType = Literal["number", "category", "flag"]
Missing = Literal["reject", "impute"]
OutOfRange = Literal["warn", "reject"]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class ManifestError(ValueError):
    """A manifest that cannot be used. The message names the place in it."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the graph's input.

    ``minimum`` and ``maximum`` are the training data's own, or what is allowed, for numbers only. A
    category's code is its index in ``categories``; a flag's is 0 or 1.
    """

    name: str
    type: FeatureType
    missing: Missing
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None
    out_of_range: OutOfRange = "warn"
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RiskLevel:
    """A level of risk: its name and the least probability that belongs to it."""

    name: str
    minimum: float


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval about a regression's value: ``value - below`` to ``value + above``, not below ``least``.

    How far it reaches depends on the value: ``cuts`` ascend and part the values into bands, a cut belonging
    to the upper one. Band ``i`` has ``below[i]`` and ``above[i]``; there is one more of each than of cuts.

    Attributes
    ----------
    coverage : float
        The share of true values that it is made to hold.
    method : str
        How it was made.
    least : float or None
        What no value is below, as 0 for a count.
    """

    coverage: float
    method: str
    least: float | None
    cuts: tuple[float, ...]
    below: tuple[float, ...]
    above: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure on the test part, with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Graph:
    """How to run the ONNX graph: its input and output by name, and the output's column that is the score."""

    input: str
    output: str
    columns: int
    column: int


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a model came from. Nothing here knows the time or the machine."""

    recipe: str
    data: str
    data_digest: str
    rows: int
    seed: int
    libraries: Mapping[str, str]
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of one model.

    ``labels``, ``threshold`` and ``risk_levels`` are a classification's, and speak of the probability of
    ``labels[1]``; for a regression they are empty, 0 and empty. ``interval`` is a regression's, and None for
    a classification. ``files`` holds the digest of each other file of the bundle, by name.
    """

    model: str
    version: str
    task: Task
    description: str
    features: tuple[Feature, ...]
    labels: tuple[str, ...]
    threshold: float
    risk_levels: tuple[RiskLevel, ...]
    graph: Graph
    metrics: Mapping[str, Metric]
    lineage: Lineage
    files: Mapping[str, str]
    interval: Interval | None = None

    def to_bytes(self) -> bytes:
        """Return the manifest as JSON, the same bytes for the same manifest."""
        document = {"schema_version": SCHEMA_VERSION} | asdict(self)
        document["features"] = [_feature_document(feature) for feature in self.features]
        for task, names in _OF_TASK.items():
            if task != self.task:
                document = {name: value for name, value in document.items() if name not in names}
        return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read a manifest.

        Raises
        ------
        ManifestError
            If anything in it is missing, unknown, or of the wrong type.
        """
        try:
            document = json.loads(data)
        except ValueError as error:
            raise ManifestError(f"not JSON: {error}") from error
        return _manifest(_Node(document, ""))


def version_key(version: str) -> tuple[int, int, int]:
    """Return what a version ``X.Y.Z`` sorts by. Raises `ManifestError` for any other form."""
    match = _SEMVER.fullmatch(version)
    if not match:
        raise ManifestError(f"version {version!r} is not of the form X.Y.Z")
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch)


def check_name(name: str) -> str:
    """Return a model's name if it may be one. Raises `ManifestError` if not."""
    if not _NAME.fullmatch(name):
        raise ManifestError(f"model name {name!r} is not lower-case letters, digits, '-' or '_'")
    return name


def _feature_document(feature: Feature) -> dict[str, Any]:
    document: dict[str, Any] = {"name": feature.name, "type": feature.type, "missing": feature.missing}
    if feature.description:
        document["description"] = feature.description
    if feature.minimum is not None:
        document |= {
            "minimum": feature.minimum,
            "maximum": feature.maximum,
            "out_of_range": feature.out_of_range,
        }
    if feature.categories:
        document["categories"] = list(feature.categories)
    return document


class _Node:
    """A JSON value and its place in the document, for messages."""

    def __init__(self, value: Any, place: str):
        self.value = value
        self.place = place

    def error(self, problem: str) -> ManifestError:
        return ManifestError(f"{self.place or 'the document'}: {problem}")

    def fields(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, "_Node"]:
        if not isinstance(self.value, dict):
            raise self.error("not an object")
        if missing := [name for name in required if name not in self.value]:
            raise self.error(f"lacks {', '.join(missing)}")
        if unknown := sorted(set(self.value) - set(required) - set(optional)):
            raise self.error(f"unknown {', '.join(unknown)}")
        prefix = f"{self.place}." if self.place else ""
        return {name: _Node(value, prefix + name) for name, value in self.value.items()}

    def items(self) -> dict[str, "_Node"]:
        if not isinstance(self.value, dict):
            raise self.error("not an object")
        return {name: _Node(value, f"{self.place}.{name}") for name, value in self.value.items()}

    def list(self) -> list["_Node"]:
        if not isinstance(self.value, list):
            raise self.error("not a list")
        return [_Node(value, f"{self.place}[{index}]") for index, value in enumerate(self.value)]

    def text(self, pattern: re.Pattern[str] | None = None) -> str:
        if not isinstance(self.value, str) or (pattern and not pattern.fullmatch(self.value)):
            raise self.error(
                f"{self.value!r} is not " + (f"of the form {pattern.pattern}" if pattern else "text")
            )
        return self.value

    def choice(self, choices: Any) -> Any:
        if self.value not in get_args(choices):
            raise self.error(f"{self.value!r} is none of {', '.join(get_args(choices))}")
        return self.value

    def number(self) -> float:
        if type(self.value) not in (int, float) or not math.isfinite(self.value):
            raise self.error(f"{self.value!r} is not a finite number")
        return float(self.value)

    def integer(self, minimum: int = 0) -> int:
        if type(self.value) is not int or self.value < minimum:
            raise self.error(f"{self.value!r} is not a whole number of at least {minimum}")
        return self.value


def _manifest(node: _Node) -> Manifest:
    of_any = {name for names in _OF_TASK.values() for name in names}
    common = [field.name for field in dataclass_fields(Manifest) if field.name not in of_any]
    fields = node.fields(["schema_version", *common], sorted(of_any))
    if fields["schema_version"].value != SCHEMA_VERSION:
        raise fields["schema_version"].error(
            f"{fields['schema_version'].value!r} is not {SCHEMA_VERSION}: export the bundle again, or use "
            "the server that belongs to it"
        )
    task: Task = fields["task"].choice(Task)
    node.fields(["schema_version", *common, *_OF_TASK[task]])
    classified = task == "binary_classification"
    return Manifest(
        model=fields["model"].text(_NAME),
        version=fields["version"].text(_SEMVER),
        task=task,
        description=fields["description"].text(),
        features=_features(fields["features"]),
        labels=_labels(fields["labels"]) if classified else (),
        threshold=_threshold(fields["threshold"]) if classified else 0.0,
        risk_levels=_risk_levels(fields["risk_levels"]) if classified else (),
        graph=_graph(fields["graph"]),
        metrics={name: _metric(item) for name, item in fields["metrics"].items().items()},
        lineage=_lineage(fields["lineage"]),
        files={
            _Node(name, item.place).text(_FILE_NAME): item.text(_DIGEST)
            for name, item in fields["files"].items().items()
        },
        interval=None if classified else _interval(fields["interval"]),
    )


def _features(node: _Node) -> tuple[Feature, ...]:
    features = tuple(_feature(item) for item in node.list())
    if not features:
        raise node.error("is empty")
    names = [feature.name for feature in features]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise node.error(f"{', '.join(repeated)} appears twice")
    if SCORE in names:
        raise node.error(f"{SCORE!r} is what a model's own score is called beside them")
    return features


def _feature(node: _Node) -> Feature:
    fields = node.fields(
        ["name", "type", "missing"], ["description", "minimum", "maximum", "out_of_range", "categories"]
    )
    kind = fields["type"].choice(FeatureType)
    categories = tuple(item.text() for item in fields["categories"].list()) if "categories" in fields else ()
    if (kind == "category") != bool(categories) or len(set(categories)) < len(categories):
        raise node.error("categories, each once, belong to a feature of type category and to no other")
    ranged = [name in fields for name in ("minimum", "maximum")]
    if any(ranged) and (not all(ranged) or kind != "number"):
        raise node.error("minimum and maximum go together, and belong to a number")
    minimum = fields["minimum"].number() if "minimum" in fields else None
    maximum = fields["maximum"].number() if "maximum" in fields else None
    if minimum is not None and maximum is not None and minimum > maximum:
        raise node.error(f"minimum {minimum} is above maximum {maximum}")
    return Feature(
        name=fields["name"].text(),
        type=kind,
        missing=fields["missing"].choice(Missing),
        description=fields["description"].text() if "description" in fields else "",
        minimum=minimum,
        maximum=maximum,
        out_of_range=fields["out_of_range"].choice(OutOfRange) if "out_of_range" in fields else "warn",
        categories=categories,
    )


def _labels(node: _Node) -> tuple[str, str]:
    labels = [item.text() for item in node.list()]
    if len(set(labels)) != 2 or len(labels) != 2:
        raise node.error("not two different labels")
    return labels[0], labels[1]


def _threshold(node: _Node) -> float:
    threshold = node.number()
    if not 0 < threshold <= 1:
        raise node.error(f"{threshold} is not above 0 and at most 1")
    return threshold


def _risk_levels(node: _Node) -> tuple[RiskLevel, ...]:
    levels = []
    for item in node.list():
        fields = item.fields(["name", "minimum"])
        levels.append(RiskLevel(fields["name"].text(), fields["minimum"].number()))
    minimums = [level.minimum for level in levels]
    if minimums[:1] != [0] or any(low >= high for low, high in pairwise(minimums)):
        raise node.error("the levels' minimums do not ascend from 0")
    return tuple(levels)


def _interval(node: _Node) -> Interval:
    fields = node.fields(["coverage", "method", "least", "cuts", "below", "above"])
    coverage = fields["coverage"].number()
    if not 0 < coverage < 1:
        raise fields["coverage"].error(f"{coverage} is not above 0 and below 1")
    cuts, below, above = (
        tuple(item.number() for item in fields[name].list()) for name in ("cuts", "below", "above")
    )
    if any(low >= high for low, high in pairwise(cuts)):
        raise fields["cuts"].error("do not ascend")
    for name, reach in (("below", below), ("above", above)):
        if len(reach) != len(cuts) + 1 or min(reach) < 0:
            raise fields[name].error(f"not {len(cuts) + 1} numbers of at least 0, one for each band")
    return Interval(
        coverage=coverage,
        method=fields["method"].text(),
        least=None if fields["least"].value is None else fields["least"].number(),
        cuts=cuts,
        below=below,
        above=above,
    )


def _graph(node: _Node) -> Graph:
    fields = node.fields(["input", "output", "columns", "column"])
    graph = Graph(
        input=fields["input"].text(),
        output=fields["output"].text(),
        columns=fields["columns"].integer(1),
        column=fields["column"].integer(),
    )
    if graph.column >= graph.columns:
        raise node.error(f"column {graph.column} is not one of {graph.columns}")
    return graph


def _metric(node: _Node) -> Metric:
    fields = node.fields(["value", "low", "high"])
    return Metric(fields["value"].number(), fields["low"].number(), fields["high"].number())


def _lineage(node: _Node) -> Lineage:
    fields = node.fields(["recipe", "data", "data_digest", "rows", "seed", "libraries", "parameters"])
    return Lineage(
        recipe=fields["recipe"].text(),
        data=fields["data"].text(),
        data_digest=fields["data_digest"].text(_DIGEST),
        rows=fields["rows"].integer(),
        seed=fields["seed"].integer(),
        libraries={name: item.text() for name, item in fields["libraries"].items().items()},
        parameters={name: item.text() for name, item in fields["parameters"].items().items()},
    )
