import pytest
from forest.v1.model_service_pb2 import Feature
from forest.v1.prediction_service_pb2 import Value
from forest_client.record import Columns, HeaderError, RecordError, record_of_json
from google.protobuf.json_format import MessageToDict

FEATURES = [
    Feature(name="Amount", type=Feature.TYPE_NUMBER, missing=Feature.MISSING_REJECT),
    Feature(name="Country", type=Feature.TYPE_CATEGORY, missing=Feature.MISSING_REJECT),
    Feature(name="Online", type=Feature.TYPE_FLAG, missing=Feature.MISSING_IMPUTE),
]


def features(record):
    return MessageToDict(record).get("features", {})


def test_columns_are_found_by_name():
    columns = Columns(["Class", "Online", "Country", "Amount"], FEATURES)
    assert columns.ignored == ["Class"]
    assert columns.absent == []
    assert features(columns.record(["0", "Yes", " 1 ", "1.5"])) == {
        "Amount": {"number": 1.5},
        "Country": {"text": " 1 "},
        "Online": {"flag": True},
    }


def test_a_blank_cell_is_a_missing_value():
    columns = Columns(["Amount", "Country", "Online"], FEATURES)
    assert features(columns.record(["", "  ", "0"])) == {"Online": {"flag": False}}


def test_a_feature_may_have_no_column_only_where_it_may_be_missing():
    columns = Columns(["Amount", "Country"], FEATURES)
    assert columns.absent == ["Online"]
    with pytest.raises(HeaderError, match=r"no column for Amount, Country: .*'amount', 'Klasse'"):
        Columns(["amount", "Klasse"], FEATURES)


def test_two_columns_for_one_feature():
    with pytest.raises(HeaderError, match="2 columns are named Amount"):
        Columns(["Amount", "Country", "Amount"], FEATURES)
    # Of no interest where it is no feature.
    assert Columns(["Amount", "Country", "x", "x"], FEATURES).ignored == ["x", "x"]


@pytest.mark.parametrize("cell", ["abc", "1,5", "1_000", "١٢", "0x1f", "--1", "1 2"])
def test_what_is_no_number(cell):
    with pytest.raises(RecordError, match=r"Amount: .* is not a number"):
        Columns(["Amount", "Country"], FEATURES).record([cell, "AT"])


@pytest.mark.parametrize("cell", ["1", " 1.0 ", "1e0", "+1"])
def test_what_is_a_number(cell):
    record = Columns(["Amount", "Country"], FEATURES).record([cell, "AT"])
    assert record.features["Amount"] == Value(number=1)


def test_every_fault_of_a_row_is_told():
    columns = Columns(["Amount", "Country", "Online"], FEATURES)
    with pytest.raises(RecordError) as caught:
        columns.record(["much", "AT", "perhaps"])
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["Amount", "Online"]
    with pytest.raises(RecordError, match="2 cells, but the header has 3 columns"):
        columns.record(["1", "AT"])


def test_json():
    record = record_of_json('{"Amount": 1, "V1": -1.5, "Country": "AT", "Online": true, "Age": null}')
    assert features(record) == {
        "Amount": {"number": 1.0},
        "V1": {"number": -1.5},
        "Country": {"text": "AT"},
        "Online": {"flag": True},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"Amount": 1, "Amount": 2}', "Amount: twice"),
        ('{"Amount": [1]}', "Amount: a number, a text"),
        ('{"Amount": {"number": 1}}', "Amount: a number, a text"),
        ('{"Amount": 1' + 400 * "0" + "}", "Amount: "),
        (100_000 * "[", "nested too deeply"),
    ],
)
def test_json_that_is_no_record(text, message):
    with pytest.raises(RecordError, match=message):
        record_of_json(text)
