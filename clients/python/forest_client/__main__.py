"""forest-predict: score a CSV file, or one record, through a server."""

import argparse
import os
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from typing import NoReturn

import grpc
from forest.v1.model_service_pb2 import MODEL_STATE_REFUSED, GetModelRequest, Model
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest.v1.prediction_service_pb2 import PredictRequest
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from google.protobuf.json_format import MessageToJson

from forest_client.channel import LONGEST_CALL, open_channel
from forest_client.failure import failure_of
from forest_client.output import scores
from forest_client.progress import Progress
from forest_client.record import Columns, HeaderError, RecordError, record_of_json
from forest_client.scoring import Refused, Scoring, ScoringStoppedError, faults_of
from forest_client.summary import Summary
from forest_client.table import Table, TableError


class ExitStatus(IntEnum):
    """What forest-predict ends with."""

    ALL_SCORED = 0
    SOME_REFUSED = 1
    WRONG_USE = 2
    NO_SERVER = 3
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


class WrongUseError(Exception):
    """A model, a version or a file that cannot be used. The message is for the user."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run forest-predict, and return its exit status."""
    arguments = _arguments(argv)
    try:
        with open_channel(arguments.target) as channel:
            try:
                return (
                    _score_record(channel, arguments)
                    if arguments.json is not None
                    else _score_file(channel, arguments)
                )
            except KeyboardInterrupt:
                _leave(_end(ExitStatus.INTERRUPTED, "interrupted"))
    except (WrongUseError, HeaderError, RecordError, TableError) as error:
        return _end(ExitStatus.WRONG_USE, str(error))
    except ScoringStoppedError as error:
        return _end(ExitStatus.NO_SERVER, f"gave up: {error}")
    except grpc.RpcError as error:
        failure = failure_of(error)
        if failure.code is grpc.StatusCode.NOT_FOUND:
            return _end(ExitStatus.WRONG_USE, failure.message)
        return _end(
            ExitStatus.NO_SERVER, f"no answer from {arguments.target}: {failure.code.name}: {failure.message}"
        )
    except KeyboardInterrupt:
        return _end(ExitStatus.INTERRUPTED, "interrupted")
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OUTPUT_CLOSED
    except OSError as error:
        return _end(ExitStatus.WRONG_USE, f"{error.filename or arguments.output}: {error.strerror}")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="forest-predict",
        description="Score a CSV file, or one record, through a Forest Serving server.",
        epilog="Exit status: 0 all rows scored, 1 some refused, 2 wrong use, file or model, "
        "3 the server cannot be reached or gave up.",
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name, as fraud")
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="a CSV file with a header, also .gz or .xz; - is standard input",
    )
    parser.add_argument("--json", metavar="RECORD", help="score one record instead: '{\"Time\": 0, ...}'")
    parser.add_argument("--target", default="localhost:50051", help="the server's HOST:PORT (%(default)s)")
    parser.add_argument("--version", default="", help="the model's version, X.Y.Z (the server's choice)")
    parser.add_argument("--output", metavar="FILE", help="where the scores go (standard output)")
    parser.add_argument(
        "--timeout",
        type=_timeout,
        default=10.0,
        metavar="SECONDS",
        help=f"how long a call may take, at most {LONGEST_CALL:g} (%(default)g)",
    )
    arguments = parser.parse_args(argv)
    if (arguments.file is None) == (arguments.json is None):
        parser.error("either FILE or --json is expected")
    if arguments.json is not None and arguments.output is not None:
        parser.error("--output goes with FILE")
    return arguments


def _timeout(text: str) -> float:
    try:
        if 0 < float(text) <= LONGEST_CALL:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most {LONGEST_CALL:g}")


def _score_record(channel: grpc.Channel, arguments: argparse.Namespace) -> ExitStatus:
    request = PredictRequest(
        model=arguments.model,
        version=arguments.version,
        record=record_of_json(arguments.json),
        request_id=str(uuid.uuid4()),
    )
    try:
        stub = PredictionServiceStub(channel)  # type: ignore[no-untyped-call] # as generated
        response = stub.Predict(request, timeout=arguments.timeout)
    except grpc.RpcError as error:
        failure = failure_of(error)
        if failure.code is grpc.StatusCode.INVALID_ARGUMENT:
            for fault in faults_of(failure):
                _say(f"refused: {fault}")
            return ExitStatus.SOME_REFUSED
        raise
    print(
        MessageToJson(
            response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=2
        )
    )
    return ExitStatus.ALL_SCORED


def _score_file(channel: grpc.Channel, arguments: argparse.Namespace) -> ExitStatus:
    with Table(arguments.file) as table:
        if arguments.output and _same_file(arguments.file, arguments.output):
            raise WrongUseError(f"{arguments.output}: it is the file that is read")
        model = _model(channel, arguments)
        columns = Columns(table.header, model.features)
        _notice(table, columns)
        scoring = Scoring(
            channel,
            model=model.name,
            version=arguments.version,
            columns=columns,
            source=table.name,
            timeout=arguments.timeout,
            batch_rows=model.max_batch_rows,
        )
        summary = Summary(positive=model.labels[1] if model.labels else "")
        with_bar = arguments.output is not None or not sys.stdout.isatty()
        with scores(arguments.output, model.task) as write, Progress(table, summary, with_bar) as progress:
            for outcome in scoring.outcomes(table):
                summary.add(outcome)
                if isinstance(outcome, Refused):
                    for fault in outcome.faults:
                        progress.write(f"{table.name}:{outcome.row.line}: {fault}")
                else:
                    write(outcome)
                progress.update()
    print(summary, file=sys.stderr)
    return ExitStatus.SOME_REFUSED if summary.refused else ExitStatus.ALL_SCORED


def _same_file(file: str, output: str) -> bool:
    return file != "-" and os.path.exists(output) and os.path.samefile(file, output)


def _model(channel: grpc.Channel, arguments: argparse.Namespace) -> Model:
    request = GetModelRequest(model=arguments.model, version=arguments.version)
    stub = ModelServiceStub(channel)  # type: ignore[no-untyped-call] # as generated
    model: Model = stub.GetModel(request, timeout=arguments.timeout).model
    if model.state == MODEL_STATE_REFUSED:
        raise WrongUseError(f"the server refuses {model.name} {model.version}: {model.state_reason}")
    return model


def _notice(table: Table, columns: Columns) -> None:
    if columns.ignored:
        _say(f"{table.name}: no features, so ignored: {', '.join(columns.ignored)}")
    if columns.absent:
        _say(f"{table.name}: no column, so scored as missing: {', '.join(columns.absent)}")


def _say(message: str) -> None:
    print(f"forest-predict: {message}", file=sys.stderr)


def _end(status: ExitStatus, message: str) -> ExitStatus:
    _say(message)
    return status


def _leave(status: ExitStatus) -> NoReturn:
    """End the process without closing the channel.

    A Ctrl-C that meets grpc while it starts a call leaves that call counted and never finished; closing
    the channel would then wait for it for ever.
    """
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
