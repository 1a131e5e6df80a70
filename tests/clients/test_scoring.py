import pytest
from forest.v1.model_service_pb2 import GetModelRequest
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest_client import open_channel
from forest_client.record import Columns
from forest_client.scoring import IN_FLIGHT, Refused, Scored, Scoring, ScoringStoppedError
from forest_client.table import Row


@pytest.fixture
def channel(server):
    with open_channel(server.target) as channel:
        yield channel


@pytest.fixture
def columns(channel, names):
    model = ModelServiceStub(channel).GetModel(GetModelRequest(model="fraud")).model
    return Columns(names, model.features)


@pytest.fixture
def scoring(channel, columns):
    return Scoring(channel, model="fraud", version="", columns=columns, source="rows.csv", timeout=10)


@pytest.fixture
def rows(golden_rows):
    cells = [[repr(value) for value in row["values"]] for row in golden_rows if None not in row["values"]]
    return [Row(number, number + 1, [*cells[number % len(cells)]]) for number in range(1, 2001)]


def test_outcomes_come_in_the_order_of_the_rows(scoring, rows):
    rows[7].cells[3] = "abc"
    outcomes = list(scoring.outcomes(rows))
    assert [outcome.row for outcome in outcomes] == rows
    assert [index for index, outcome in enumerate(outcomes) if isinstance(outcome, Refused)] == [7]
    scored = [outcome for outcome in outcomes if isinstance(outcome, Scored)]
    assert [outcome.response.request_id for outcome in scored] == [
        f"rows.csv:{outcome.row.line}" for outcome in scored
    ]
    assert all(0 < outcome.seconds < 10 for outcome in scored)


def test_no_more_rows_are_read_than_can_be_in_flight(scoring, rows):
    read = 0

    def counted():
        nonlocal read
        for row in rows:
            read += 1
            yield row

    for done, _ in enumerate(scoring.outcomes(counted())):
        assert read <= done + IN_FLIGHT


def test_a_failure_that_is_not_the_row_s_ends_it(channel, columns, rows):
    scoring = Scoring(channel, model="none", version="", columns=columns, source="rows.csv", timeout=10)
    with pytest.raises(ScoringStoppedError, match=r"^rows\.csv:3: NOT_FOUND: "):
        list(scoring.outcomes(rows[1:]))
