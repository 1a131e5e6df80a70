"""What is asked for: a row of which nothing is odd or missing, by position and by name."""

from pathlib import Path

from forest.v1.prediction_service_pb2 import PredictRequest, Record, Value, Vector

from model_bundle import bundle, golden
from model_bundle.encoding import Encoder
from model_bundle.golden import GoldenRow


def usual(folder: Path) -> tuple[Encoder, GoldenRow]:
    """Return the first ordinary golden row that answers without a warning, and the encoder that holds it."""
    manifest, _ = bundle.read_manifest(folder)
    encoder = Encoder(manifest.features)
    for row in golden.from_bytes((folder / bundle.GOLDEN).read_bytes()):
        if (
            row.kind == "ordinary"
            and None not in row.record.values()
            and not encoder.encode_record(row.record)
        ):
            return encoder, row
    raise ValueError(f"{folder}: no ordinary golden row without anything odd")


def request(folder: Path, by_name: bool) -> PredictRequest:
    """Return the request for that row, by name or by position."""
    encoder, row = usual(folder)
    asked = PredictRequest(model=folder.parent.name, request_id="transaction-0001")
    if by_name:
        asked.record.CopyFrom(record(encoder, row))
    else:
        asked.vector.CopyFrom(Vector(values=encoder.row.tolist()))
    return asked


def record(encoder: Encoder, row: GoldenRow) -> Record:
    """Return a golden row's record as a message."""
    made = Record()
    for name, kind in encoder.kinds:
        value = Value()
        setattr(value, kind, row.record[name])
        made.features[name].CopyFrom(value)
    return made
