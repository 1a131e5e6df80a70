"""That the gate lets a right graph pass, and fails when it should."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import onnx
import pytest
from sklearn.ensemble import RandomForestClassifier

from model_bundle.decision import Decision
from model_bundle.encoding import Encoder
from model_bundle.manifest import Feature, Lineage, Manifest
from model_bundle.session import Session
from model_export import conversion, parity, risk, trials
from model_export.grid import off_grid
from model_export.parity import ParityError, Proof
from model_export.training import Forest, Trained, round_leaves
from model_export.trials import Trial

COLUMNS = 5
NAMES = [f"F{index}" for index in range(COLUMNS)]


@dataclass
class Case:
    """A forest, the rows it was trained on, and others."""

    forest: Forest
    train: np.ndarray
    test: np.ndarray
    threshold: float = off_grid(0.4)

    def prove(self, graph: bytes | None = None, kinds: tuple[str, ...] = ()) -> list[Proof]:
        """Run the gate as export does, on the forest's graph or another, on all kinds of rows or some."""
        features = tuple(Feature(name, "number", "reject") for name in NAMES)
        manifest = Manifest(
            model="some",
            version="1.0.0",
            task="binary_classification",
            description="",
            features=features,
            labels=("no", "yes"),
            threshold=self.threshold,
            risk_levels=risk.levels(self.threshold),
            graph=conversion.CLASSIFICATION,
            metrics={},
            lineage=Lineage("", "", "sha256:" + "0" * 64, 0, 0, {}, {}),
            files={},
        )
        encoder, decision = Encoder(features), Decision(manifest)
        scores = self.trained().scores(self.test)
        all_trials = chain(
            trials.on_splits(self.forest.estimators_, self.train, features),
            [
                trials.beyond_data(self.test[:2], features),
                trials.uniform(features),
                Trial("threshold", trials.nearest(self.test, scores, (self.threshold,), 50)),
                Trial("test", self.test),
            ],
        )
        with closing(Session(graph or self.graph(), conversion.CLASSIFICATION, encoder.row)) as session:
            return parity.prove(
                self.trained(),
                self.train,
                session=session,
                encoder=encoder,
                decision=decision,
                trials=[trial for trial in all_trials if not kinds or trial.kind in kinds],
            )

    def graph(self) -> bytes:
        return conversion.convert(self.trained(), "some")

    def trained(self) -> Trained:
        return Trained(self.forest, np.full(COLUMNS, np.nan, np.float32))

    def changed(self, change: Callable[[dict[str, list]], None]) -> bytes:
        """Return the graph with its forest's attributes changed."""
        model = onnx.load_from_string(self.graph())
        (node,) = model.graph.node
        held = {item.name: item.floats if item.floats else item.ints for item in node.attribute}
        change(held)
        return model.SerializeToString()


def make(trees: int = 16, rows: int = 800, nan: bool = False, **parameters: object) -> Case:
    random = np.random.default_rng(7)
    features = random.normal(size=(2 * rows, COLUMNS)).astype(np.float32)
    labels = features[:, 0] - features[:, 3] + random.normal(size=2 * rows) > 0.8
    train = features[:rows].copy()
    if nan:
        train[(random.random(rows) < 0.3) & labels[:rows], 2] = np.nan
    forest = RandomForestClassifier(trees, random_state=0, **parameters).fit(train, labels[:rows])
    round_leaves(forest)
    return Case(forest, train, features[rows:])


@pytest.fixture(scope="module")
def case() -> Case:
    return make()


def test_a_right_graph_passes_without_any_difference(case: Case):
    proofs = {proof.kind: proof for proof in case.prove()}
    splits = sum((tree.tree_.children_left >= 0).sum() for tree in case.forest.estimators_)
    assert {kind: proof.rows for kind, proof in proofs.items()} == {
        "split": 6 * splits,
        "extreme": 2 * COLUMNS * 8,
        "uniform": 8,
        "threshold": 100,
        "test": 800,
    }
    assert {proof.worst for proof in proofs.values()} == {0}
    assert proofs["split"].alone == 1_000
    assert proofs["test"].alone == 800


@pytest.mark.parametrize("trees", [1, 2, 256])
@pytest.mark.parametrize("depth", [1, 3, None])
def test_forests_of_any_size_pass(trees: int, depth: int | None):
    assert {proof.worst for proof in make(trees, 300, max_depth=depth).prove()} == {0}


def test_trees_that_are_a_single_leaf_pass():
    case = make(8, 60)
    lone = RandomForestClassifier(8, random_state=0, max_leaf_nodes=None, min_samples_split=1_000)
    lone.fit(case.train, case.test[: len(case.train), 0] > 0)
    round_leaves(lone)
    assert all(tree.tree_.node_count == 1 for tree in lone.estimators_)
    assert {proof.worst for proof in replace(case, forest=lone).prove()} == {0}
    # A rare label is absent from what some trees are shown.
    rare = RandomForestClassifier(8, random_state=0).fit(case.train, np.arange(60) == 4)
    round_leaves(rare)
    sizes = {tree.tree_.node_count for tree in rare.estimators_}
    assert 1 in sizes
    assert len(sizes) > 1
    assert {proof.worst for proof in replace(case, forest=rare).prove()} == {0}


def test_every_split_is_reached_and_passed_on_both_sides(case: Case):
    features = [Feature(name, "number", "reject") for name in NAMES]
    forest = case.forest
    for estimator, trial in zip(
        forest.estimators_, trials.on_splits(forest.estimators_, case.train, features), strict=True
    ):
        tree = estimator.tree_
        passed = tree.decision_path(trial.rows).tocsc()
        for node in range(tree.node_count):
            assert passed[:, node].nnz > 0


# The smallest change of a leaf: it moves a probability by 2**-16 with 16 trees, and by 9.5e-7 with 256.
@pytest.mark.parametrize("trees", [16, 256])
@pytest.mark.parametrize("change", [2.0**-12, -0.25])
def test_a_perturbed_leaf_fails(trees: int, change: float):
    case = make(trees, 400, min_samples_leaf=5)

    def perturb(held: dict[str, list]) -> None:
        # A leaf's weight is its probability of the positive label, divided by the number of trees.
        weights = held["class_weights"]
        leaf = next(index for index, weight in enumerate(weights) if 0.3 < weight * trees < 0.7)
        weights[leaf] += change / trees

    with pytest.raises(ParityError, match=r"^split row \d+ with F\d at -?\d.*: the trained forest gives"):
        case.prove(case.changed(perturb))


def test_swapped_features_fail_on_every_kind_of_real_rows(case: Case):
    def swap(held: dict[str, list]) -> None:
        ids = held["nodes_featureids"]
        for index, mode in enumerate(ids):
            ids[index] = {0: 3, 3: 0}.get(mode, mode)

    for kind in ("split", "threshold", "test"):
        with pytest.raises(ParityError, match=f"^{kind} row") as caught:
            case.prove(case.changed(swap), kinds=(kind,))
        assert "ONNX Runtime" in str(caught.value)


@pytest.mark.parametrize("ulps", [1, -1])
def test_any_split_that_is_moved_by_one_ulp_fails(ulps: int):
    """A split between two pure leaves decides every row that reaches it."""
    case = make(1, 400)
    tree = case.forest.estimators_[0].tree_
    leaf = tree.children_left < 0
    between = [
        node
        for node in np.flatnonzero(~leaf)
        if leaf[tree.children_left[node]]
        and leaf[tree.children_right[node]]
        and tree.value[tree.children_left[node], 0, 1] != tree.value[tree.children_right[node], 0, 1]
    ]
    assert len(between) > 10
    for node in between:

        def move(held: dict[str, list], node: int = node) -> None:
            place = list(held["nodes_nodeids"]).index(node)
            values = held["nodes_values"]
            values[place] = np.nextafter(np.float32(values[place]), np.float32(ulps * np.inf))

        with pytest.raises(ParityError, match=rf"^split row \d+ with {NAMES[tree.feature[node]]} at "):
            case.prove(case.changed(move))


def test_a_forest_that_learnt_from_missing_values_is_refused_by_its_trees_alone():
    case = make(nan=True)
    expected = r"learnt from missing values of F\d"
    with pytest.raises(ParityError, match=expected):
        case.prove()
    without = replace(case, train=np.nan_to_num(case.train))
    with pytest.raises(ParityError, match=expected):
        without.prove()


def test_rows_with_missing_values_are_refused_whatever_the_trees_look_like(case: Case):
    train = case.train.copy()
    train[5, 1] = np.nan
    with pytest.raises(ParityError, match="missing values of F1: "):
        replace(case, train=train).prove()


def test_a_label_that_turns_is_named(case: Case):
    def invert(held: dict[str, list]) -> None:
        weights = held["class_weights"]
        for index, weight in enumerate(weights):
            weights[index] = 1 / 16 - weight

    with pytest.raises(ParityError, match=r"\((yes|no)\), ONNX Runtime .* \((yes|no)\)$") as caught:
        case.prove(case.changed(invert))
    assert "(yes)" in str(caught.value)
    assert "(no)" in str(caught.value)


def test_conversion_gives_the_same_bytes(case: Case):
    assert case.graph() == case.graph()
