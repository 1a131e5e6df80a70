"""That regressions, categories and missing values pass the gate bit for bit, and what does not."""

from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from sklearn.ensemble import RandomForestRegressor

from model_bundle.decision import Estimate
from model_bundle.encoding import Encoder
from model_bundle.manifest import Feature, Interval
from model_bundle.session import Session
from model_export import conversion, parity, trials
from model_export.grid import leaf_step, off_grid
from model_export.parity import ParityError, Proof
from model_export.training import Trained, round_leaves
from model_export.trials import Trial

FEATURES = (
    Feature("size", "number", "reject", minimum=-9.0, maximum=9.0),
    Feature("age", "number", "impute", minimum=-9.0, maximum=9.0),
    Feature("floor", "number", "reject", minimum=0.0, maximum=5.0, out_of_range="reject"),
    Feature("kind", "category", "impute", categories=("flat", "house", "farm", "mill")),
    Feature("sea", "flag", "reject"),
)
IMPUTED = np.array([np.nan, 0.25, np.nan, 2.0, np.nan], np.float32)


@dataclass
class Case:
    """A regression, the rows it was trained on, and others."""

    trained: Trained
    train: np.ndarray
    test: np.ndarray

    def prove(self, graph: bytes | None = None) -> dict[str, Proof]:
        """Run the gate as export does, on the model's graph or another."""
        encoder = Encoder(FEATURES)
        scores = self.trained.scores(self.test)
        cuts = (off_grid(float(np.median(scores)), self.trained.step / len(self.trained.forest.estimators_)),)
        decision = Estimate(Interval(0.9, "", None, cuts, (1.0, 2.0), (1.0, 2.0)))
        filled = self.trained.fill(self.train)
        tried = [
            *trials.on_splits(self.trained.forest.estimators_, filled, FEATURES),
            trials.beyond_data(self.trained.fill(self.test[:2]), FEATURES),
            trials.uniform(FEATURES),
            trials.missing(self.test, FEATURES),
            Trial("cut", trials.nearest(self.test, scores, cuts, 50)),
            Trial("test", self.test),
        ]
        with closing(Session(graph or self.graph(), conversion.REGRESSION, encoder.row)) as session:
            proofs = parity.prove(
                self.trained, self.train, session=session, encoder=encoder, decision=decision, trials=tried
            )
        return {proof.kind: proof for proof in proofs}

    def graph(self) -> bytes:
        return conversion.convert(self.trained, "some")


def make(trees: int = 16, rows: int = 600, magnitude: float = 300.0, shift: float = 0.0) -> Case:
    random = np.random.default_rng(7)
    made = np.column_stack(
        [
            random.normal(size=(2 * rows, 2)).clip(-9, 9),
            random.integers(0, 6, 2 * rows),
            random.integers(0, 4, 2 * rows),
            random.integers(0, 2, 2 * rows),
        ]
    ).astype(np.float32)
    targets = magnitude * (made[:, 0] + made[:, 3] + random.normal(size=2 * rows)) + shift
    made[random.random(2 * rows) < 0.1, 1] = np.nan
    made[random.random(2 * rows) < 0.1, 3] = np.nan
    train, test = made[:rows], made[rows:]
    forest = RandomForestRegressor(trees, random_state=0).fit(
        np.where(np.isnan(train), IMPUTED, train), targets[:rows]
    )
    return Case(Trained(forest, IMPUTED, round_leaves(forest)), train, test)


@pytest.fixture(scope="module")
def case() -> Case:
    return make()


def test_a_right_graph_passes_without_any_difference_on_rows_of_every_kind(case: Case):
    proofs = case.prove()
    assert {proof.worst for proof in proofs.values()} == {0}
    # 8 extremes of the numbers, both ends of the bounded one, each code of category and flag; for two rows.
    assert proofs["extreme"].rows == 2 * (8 + 8 + 2 + 4 + 2)
    lacking = np.isnan(case.test).any(axis=1).sum()
    assert proofs["missing"].rows == lacking + 3 * 20
    # Every row of every kind is one that a caller could send.
    assert all(proof.alone == min(proof.rows, 1_000) for proof in proofs.values())


# onnxruntime#4130: with leaves as trained, values drift from scikit-learn's with their magnitude.
@pytest.mark.parametrize("magnitude", [1e-6, 977.0, 1e12])
@pytest.mark.parametrize("trees", [1, 256])
def test_values_of_any_magnitude_are_equal_to_the_last_bit(magnitude: float, trees: int):
    for shift in (0.0, 50 * magnitude):
        proofs = make(trees, 60, magnitude, shift).prove()
        assert {proof.worst for proof in proofs.values()} == {0}


def test_leaves_as_trained_are_not_equal():
    case = make(64, 600, 1e6)
    random = np.random.default_rng(7)
    for tree in case.trained.forest.estimators_:
        tree.tree_.value[:] += random.normal(size=tree.tree_.value.shape)
    with pytest.raises(ParityError, match=r": the trained forest gives value .*, ONNX Runtime value "):
        case.prove()


@pytest.mark.parametrize("trees", [1, 64, 256])
def test_rounding_moves_a_leaf_by_half_a_step_which_is_little(trees: int):
    case = make(trees, 200)
    forest = RandomForestRegressor(trees, random_state=0)
    forest.fit(case.trained.fill(case.train), np.arange(200.0) ** 2)
    before = [tree.tree_.value.copy() for tree in forest.estimators_]
    step = round_leaves(forest)
    moved = [
        np.abs(tree.tree_.value - value).max() for tree, value in zip(forest.estimators_, before, strict=True)
    ]
    assert max(moved) <= step / 2 <= 199**2 * 2.0**-15
    assert round_leaves(forest) == step


def test_a_step_is_for_the_greatest_value():
    assert leaf_step(1023.9, 64) == 2.0**10 * 64 / 2**23
    assert leaf_step(1024.0, 64) == 2.0**11 * 64 / 2**23
    assert leaf_step(0.0, 64) > 0


def changed(case: Case, name: str, change) -> bytes:
    """Return the graph with an attribute of one of its nodes changed."""
    model = onnx.load_from_string(case.graph())
    held = [item for node in model.graph.node for item in node.attribute if item.name == name]
    (attribute,) = held
    change(attribute.floats)
    return model.SerializeToString()


def test_a_leaf_that_is_off_by_one_step_fails(case: Case):
    def perturb(weights) -> None:
        weights[3] += case.trained.step / 16

    with pytest.raises(ParityError, match=r"^split row \d+ with \w+ at .*: the trained forest gives value "):
        case.prove(changed(case, "target_weights", perturb))


@pytest.mark.parametrize("feature", [1, 3])
def test_another_value_for_what_is_missing_fails(case: Case, feature: int):
    def perturb(values) -> None:
        values[feature] = 0.0 if feature == 3 else 2.5

    with pytest.raises(ParityError, match=r"^(missing|cut|test) row "):
        case.prove(changed(case, "imputed_value_floats", perturb))


def test_a_graph_that_imputes_nothing_fails(case: Case):
    bare = replace(case.trained, imputed=np.full(5, np.nan, np.float32))
    with pytest.raises(ParityError, match=r"^(missing|cut|test) row "):
        case.prove(conversion.convert(bare, "some"))


def test_missing_values_that_nothing_stands_for_are_refused(case: Case):
    train = case.train.copy()
    train[5, 0] = np.nan
    with pytest.raises(ParityError, match="missing values of size: "):
        replace(case, train=train).prove()


def test_trees_that_are_a_single_leaf_pass():
    case = make(8, 60)
    forest = RandomForestRegressor(8, min_samples_split=1_000, random_state=0)
    forest.fit(case.trained.fill(case.train), np.arange(60.0))
    lone = replace(case, trained=Trained(forest, IMPUTED, round_leaves(forest)))
    assert {proof.worst for proof in lone.prove().values()} == {0}
