import pytest
from forest.v1.model_service_pb2 import GetModelRequest
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest.v1.prediction_service_pb2 import PredictRequest
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from forest_client import open_channel
from forest_client.record import Columns
from forest_client.scoring import BATCH_ROWS, BATCHES_IN_FLIGHT, Refused, Scored, Scoring, ScoringStoppedError
from forest_client.table import Row

from server.grpcio_front import GrpcioFront
from server.health import Health
from server.models import Models
from server.prediction_service import PredictionService


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
        assert read <= done + BATCH_ROWS * BATCHES_IN_FLIGHT


def test_a_failure_that_is_not_the_row_s_ends_it(channel, columns, rows):
    scoring = Scoring(channel, model="none", version="", columns=columns, source="rows.csv", timeout=10)
    with pytest.raises(ScoringStoppedError, match=r"^rows\.csv:3: NOT_FOUND: "):
        list(scoring.outcomes(rows[1:]))


def test_a_row_s_answer_is_the_one_that_predict_gives(channel, columns, rows):
    predict = PredictionServiceStub(channel).Predict
    rows = rows[:300]
    # Far out of the range of training.
    rows[5].cells[29] = rows[270].cells[29] = "1e9"
    scoring = Scoring(channel, model="fraud", version="", columns=columns, source="rows.csv", timeout=10)
    outcomes = list(scoring.outcomes(rows))
    for outcome in outcomes[:20] + outcomes[250:]:
        request = PredictRequest(
            model="fraud", record=columns.record(outcome.row.cells), request_id=f"rows.csv:{outcome.row.line}"
        )
        expected = predict(request, timeout=10)
        # A batch tells the range, but not each value that is out of it.
        for warning in (*expected.warnings, *outcome.response.warnings):
            warning.message = ""
        assert outcome.response == expected
    assert "Amount" in [warning.feature for warning in outcomes[270].response.warnings]


@pytest.mark.parametrize("batch_rows", [0, 1, 7, 10_000])
def test_rows_that_the_server_refuses_cost_no_other_row(channel, columns, rows, batch_rows):
    scoring = Scoring(
        channel,
        model="fraud",
        version="",
        columns=columns,
        source="rows.csv",
        timeout=10,
        batch_rows=batch_rows,
    )
    rows = rows[:600]
    for number in (0, 100, 255, 256, 599):
        rows[number].cells[29] = "inf"
    rows[3].cells[1] = "abc"
    outcomes = list(scoring.outcomes(rows))
    assert [outcome.row for outcome in outcomes] == rows
    refused = {place: each.faults for place, each in enumerate(outcomes) if isinstance(each, Refused)}
    assert list(refused) == [0, 3, 100, 255, 256, 599]
    assert refused[256] == ("Amount: infinite, or beyond float32",)


def test_a_server_that_knows_no_batches_is_asked_row_by_row(fraud_bundle, columns, rows):
    models = Models(fraud_bundle.parents[1])
    models.load()
    service = PredictionService(models)
    path = f"/{service.name}/Predict"
    health = Health([])
    health.set(True, "")
    methods = {f"/{health.name}/{name}": method for name, method in health.methods().items()}
    front = GrpcioFront("old", {path: service.methods()["Predict"], **methods}, "localhost:0")
    front.start()
    try:
        with open_channel(f"localhost:{front.port}") as channel:
            scoring = Scoring(channel, model="fraud", version="", columns=columns, source="a", timeout=10)
            outcomes = list(scoring.outcomes(rows[:300]))
        assert [outcome.row for outcome in outcomes] == rows[:300]
        assert all(isinstance(outcome, Scored) for outcome in outcomes)
    finally:
        front.stop(5)
