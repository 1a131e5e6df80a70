"""The encoder: one row, by name or by position, gives the same bits, or every fault of it by name."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_bundle.encoding import Encoder, InvalidRow, InvalidRows
from model_bundle.manifest import Feature

FEATURES = (
    Feature("Amount", "number", "reject", minimum=0.0, maximum=100.0),
    Feature("Age", "number", "impute", minimum=18.0, maximum=90.0, out_of_range="reject"),
    Feature("Score", "number", "reject"),
    Feature("Plan", "category", "reject", categories=("basic", "plus", "pro")),
    Feature("Region", "category", "impute", categories=("north", "south")),
    Feature("Partner", "flag", "reject"),
    Feature("Paperless", "flag", "impute"),
)
NAMES = [feature.name for feature in FEATURES]
MAX = float(np.finfo(np.float32).max)

RECORD = {
    "Amount": 12.34,
    "Age": 40.0,
    "Score": -1e-3,
    "Plan": "plus",
    "Region": "south",
    "Partner": True,
    "Paperless": False,
}
VECTOR = [12.34, 40.0, -1e-3, 1.0, 1.0, 1.0, 0.0]


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(FEATURES)


def value_of(feature: Feature) -> st.SearchStrategy:
    """Return values that are right for a feature, each with its code."""
    if feature.type == "category":
        right = st.sampled_from([(name, code) for code, name in enumerate(feature.categories)])
    elif feature.type == "flag":
        right = st.sampled_from([(False, 0.0), (True, 1.0)])
    else:
        low, high = (feature.minimum, feature.maximum) if feature.out_of_range == "reject" else (-MAX, MAX)
        right = st.floats(low, high).map(lambda value: (value, value))
    if feature.missing == "impute":
        right |= st.just((None, math.nan))
        if feature.type == "number":
            right |= st.just((math.nan, math.nan))
    return right


@given(rows=st.lists(st.tuples(*map(value_of, FEATURES)), min_size=1, max_size=4))
def test_a_right_row_has_the_same_bits_by_name_and_by_position(rows: list):
    encoder = Encoder(FEATURES)
    memory = encoder.row
    for row in rows:
        expected = np.array([code for _, code in row], np.float64).astype(np.float32)
        odd_by_name = encoder.encode_record(
            {name: value for name, (value, _) in zip(NAMES, row, strict=True)}
        )
        assert encoder.row.tobytes() == expected.tobytes()
        encoder.row[:] = 77
        odd = encoder.encode_vector([code for _, code in row])
        assert encoder.row.tobytes() == expected.tobytes()
        assert odd == odd_by_name
        with np.errstate(over="ignore"):
            amount = np.float32(row[0][1])
        assert [item.feature for item in odd] == ([] if 0 <= amount <= 100 else ["Amount"])
    assert encoder.row is memory


def test_an_absent_feature_is_a_missing_one(encoder: Encoder):
    encoder.encode_record({name: value for name, value in RECORD.items() if name not in ("Age", "Region")})
    assert np.isnan(encoder.row).tolist() == [False, True, False, False, True, False, False]


@given(
    record=st.dictionaries(
        st.sampled_from([*NAMES, "Time", ""]) | st.text(max_size=5),
        st.none()
        | st.booleans()
        | st.floats()
        | st.integers()
        | st.text(max_size=200)
        | st.sampled_from(["pro", "north"]),
    )
)
def test_any_record_is_encoded_or_refused_by_what_is_wrong_with_it(record: dict):
    encoder = Encoder(FEATURES)
    try:
        encoder.encode_record(record)
    except InvalidRow as error:
        assert error.violations  # noqa: PT017
        for violation in error.violations:
            assert violation.feature in {*NAMES, *record}
            assert violation.message.startswith(f"{violation.feature}: ")
        named = {item.feature for item in error.violations}
        unknown = {item.feature for item in error.violations if item.reason == "UNKNOWN_FEATURE"}
        if unknown:
            assert unknown == set(record) - set(NAMES)
        required = {feature.name for feature in FEATURES if feature.missing == "reject"}
        assert {name for name in required if record.get(name) is None} <= named
    else:
        assert set(record) <= set(NAMES)
        assert not np.isinf(encoder.row).any()


@given(st.lists(st.floats() | st.floats(width=32) | st.integers(0, 3), max_size=9))
def test_any_vector_is_encoded_or_refused_by_what_is_wrong_with_it(values: list[float]):
    encoder = Encoder(FEATURES)
    try:
        encoder.encode_vector(values)
    except InvalidRow as error:
        if len(values) != len(FEATURES):
            (violation,) = error.violations
            assert (violation.feature, violation.reason) == ("", "WRONG_LENGTH")
            assert f"{len(values)} values, but the model has 7 features" in violation.message
        else:
            faults = {violation.feature: violation.reason for violation in error.violations}
            assert set(faults) <= set(NAMES)
            for feature, value in zip(FEATURES, values, strict=True):
                if math.isnan(value):
                    assert (faults.get(feature.name) == "MISSING_VALUE") == (feature.missing == "reject")
                elif abs(value) > 1e39:
                    assert faults[feature.name] == "NOT_FINITE"
    else:
        assert len(values) == len(FEATURES)
        with np.errstate(over="ignore"):
            assert encoder.row.tobytes() == np.array(values, np.float64).astype(np.float32).tobytes()


@pytest.mark.parametrize(
    ("change", "feature", "reason", "message"),
    [
        ({"Colour": 1.0}, "Colour", "UNKNOWN_FEATURE", "Colour: the model has no such feature"),
        ({"Amount": None}, "Amount", "MISSING_FEATURE", "Amount: missing, and the model has no rule"),
        ({"Amount": math.nan}, "Amount", "MISSING_VALUE", "Amount: missing, and the model has no rule"),
        ({"Amount": math.inf}, "Amount", "NOT_FINITE", "Amount: infinite, or beyond float32"),
        ({"Amount": -1e39}, "Amount", "NOT_FINITE", "Amount: -1e+39 is infinite, or beyond float32"),
        ({"Amount": 10**400}, "Amount", "NOT_FINITE", "Amount: 1000"),
        ({"Amount": "12"}, "Amount", "WRONG_TYPE", "Amount: expects a number, not '12'"),
        ({"Amount": True}, "Amount", "WRONG_TYPE", "Amount: expects a number, not True"),
        ({"Age": 17.0}, "Age", "OUT_OF_RANGE", "Age: 17 is outside the range allowed, 18 to 90"),
        ({"Plan": "gold"}, "Plan", "UNKNOWN_CATEGORY", "Plan: 'gold' is none of 'basic', 'plus', 'pro'"),
        ({"Plan": "x" * 99}, "Plan", "UNKNOWN_CATEGORY", "Plan: '" + "x" * 46 + "... is none of"),
        ({"Plan": 1.0}, "Plan", "WRONG_TYPE", "Plan: expects text, not 1.0"),
        ({"Plan": None}, "Plan", "MISSING_FEATURE", "Plan: missing, and the model has no rule"),
        ({"Partner": 1.0}, "Partner", "WRONG_TYPE", "Partner: expects a flag, not 1.0"),
        ({"Partner": "yes"}, "Partner", "WRONG_TYPE", "Partner: expects a flag, not 'yes'"),
    ],
)  # fmt: skip
def test_names_a_records_fault(encoder: Encoder, change: dict, feature: str, reason: str, message: str):
    with pytest.raises(InvalidRow) as caught:
        encoder.encode_record(RECORD | change)
    (violation,) = caught.value.violations
    assert (violation.feature, violation.reason) == (feature, reason)
    assert violation.message.startswith(message)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (0, math.nan, "MISSING_VALUE"),
        (0, -math.inf, "NOT_FINITE"),
        (2, 3.5e38, "NOT_FINITE"),
        (1, 91.0, "OUT_OF_RANGE"),
        (3, 3.0, "UNKNOWN_CATEGORY"),
        (3, 0.5, "UNKNOWN_CATEGORY"),
        (3, -1.0, "UNKNOWN_CATEGORY"),
        (5, 2.0, "UNKNOWN_CATEGORY"),
        (5, math.nan, "MISSING_VALUE"),
    ],
)
def test_names_a_vectors_fault(encoder: Encoder, place: int, value: float, reason: str):
    vector = list(VECTOR)
    vector[place] = value
    with pytest.raises(InvalidRow) as caught:
        encoder.encode_vector(vector)
    (violation,) = caught.value.violations
    assert (violation.feature, violation.reason) == (NAMES[place], reason)


def test_names_all_faults_at_once(encoder: Encoder):
    with pytest.raises(InvalidRow) as caught:
        encoder.encode_record({"Amount": "a lot", "Plan": "gold", "Colour": 1.0, "Size": 2.0})
    assert [(item.feature, item.reason) for item in caught.value.violations] == [
        ("Colour", "UNKNOWN_FEATURE"),
        ("Size", "UNKNOWN_FEATURE"),
        ("Amount", "WRONG_TYPE"),
        ("Score", "MISSING_FEATURE"),
        ("Plan", "UNKNOWN_CATEGORY"),
        ("Partner", "MISSING_FEATURE"),
    ]
    with pytest.raises(InvalidRow) as caught:
        encoder.encode_vector([math.nan, 1.0, math.inf, 9.0, math.nan, 1.0, 0.0])
    assert [item.feature for item in caught.value.violations] == ["Amount", "Age", "Score", "Plan"]


def test_what_is_odd_but_allowed_is_told(encoder: Encoder):
    (odd,) = encoder.encode_record(RECORD | {"Amount": 100.5})
    assert odd.message == "Amount: 100.5 is outside the range of training, 0 to 100"
    assert encoder.encode_record(RECORD | {"Amount": 100.0}) == []
    assert encoder.encode_record(RECORD | {"Amount": 0.0}) == []


def test_a_whole_number_is_a_number(encoder: Encoder):
    encoder.encode_record(RECORD | {"Amount": 12})
    assert encoder.row[0] == 12


def test_a_refused_row_does_not_spoil_the_next(encoder: Encoder):
    with pytest.raises(InvalidRow):
        encoder.encode_record({})
    with pytest.raises(InvalidRow):
        encoder.encode_vector([])
    encoder.encode_record(RECORD)
    assert encoder.row.tolist() == np.float32(VECTOR).tolist()


def test_a_single_feature_is_enough():
    encoder = Encoder((Feature("Only", "number", "reject"),))
    encoder.encode_record({"Only": 0.1})
    assert encoder.row.tolist() == [float(np.float32(0.1))]
    with pytest.raises(InvalidRow, match="Only: missing"):
        encoder.encode_record({})


@given(row=st.tuples(*map(value_of, FEATURES)))
def test_a_row_of_codes_is_read_back_as_the_record_that_it_came_from(row: tuple):
    encoder = Encoder(FEATURES)
    encoder.encode_record({name: value for name, (value, _) in zip(NAMES, row, strict=True)})
    read = encoder.record(encoder.row.tolist())
    codes = encoder.row.tobytes()
    encoder.encode_record(read)
    assert encoder.row.tobytes() == codes
    for name, (value, _) in zip(NAMES, row, strict=True):
        if not isinstance(value, float):
            assert read[name] == value


def test_complete_values_in_order_are_encoded_as_a_record_is(encoder: Encoder):
    encoder.encode_record(RECORD)
    expected = encoder.row.tobytes()
    encoder.row[:] = 77
    values = list(RECORD.values())
    assert encoder.encode_values(values) == []
    assert encoder.row.tobytes() == expected
    assert values == list(RECORD.values())
    assert [kind for _, kind in encoder.kinds] == ["number"] * 3 + ["text"] * 2 + ["flag"] * 2
    with pytest.raises(InvalidRow, match="Plan: 'gold' is none of"):
        encoder.encode_values([*values[:3], "gold", *values[4:]])


@pytest.mark.parametrize("code", [0.5, -1.0, 3.0, 1e30])
def test_a_code_that_is_none_is_refused_and_the_next_row_is_not(encoder: Encoder, code: float):
    for _ in range(2):
        with pytest.raises(InvalidRow, match=r"Plan: .* is no code, which are 0 to 2"):
            encoder.encode_vector([*VECTOR[:3], code, *VECTOR[4:]])
        assert encoder.encode_record(RECORD) == []
        assert encoder.encode_vector(VECTOR) == []


@pytest.mark.parametrize("rows", [1, 15, 127, 128, 143, 144, 513])
@pytest.mark.parametrize(("column", "wrong"), [(0, math.nan), (1, 17.0), (2, -math.inf), (3, 0.5), (5, 2.0)])
def test_one_wrong_value_is_found_wherever_in_a_matrix_it_is(
    encoder: Encoder, rows: int, column: int, wrong: float
):
    right = np.tile(np.array(VECTOR, np.float32), (rows, 1))
    assert not encoder.check_matrix(right)
    for row in {0, rows // 2, rows - rows % 16 - 1, rows - rows % 16, rows - 1} & set(range(rows)):
        matrix = right.copy()
        matrix[row, column] = wrong
        with pytest.raises(InvalidRows) as caught:
            encoder.check_matrix(matrix)
        assert [(place, fault.feature) for place, fault in caught.value.faults.kept] == [(row, NAMES[column])]
        matrix[row, column] = VECTOR[column]
        matrix[row, 0] = 100.5
        (odd,) = encoder.check_matrix(matrix)
        assert (odd.feature, odd.rows.tolist()) == ("Amount", [row])
