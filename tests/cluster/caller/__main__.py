"""A client as a bank would run it: it scores at a constant rate, and accounts for every call.

It calls by the generated stubs, over a channel as clients/python opens it, until SIGTERM. Calls do not wait
for each other: a late answer delays none.
"""

import argparse
import os
import signal
import sys
import threading
import time
from queue import SimpleQueue

import grpc
from forest.v1.prediction_service_pb2 import PredictRequest, PredictResponse, Record, Value
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from forest_client import failure_of, open_channel

# The image holds this folder alone, without the folders that it is in here.
from .call_log import Begin, Call, End

_ENDING = (signal.SIGTERM, signal.SIGINT)
_TRANSACTION = {"Time": 406.0, "Amount": 12.5, **{f"V{number}": 0.0 for number in range(1, 29)}}


class _Writer(threading.Thread):
    """Writes the log, in a thread of its own: who reads it slowly delays no call."""

    def __init__(self, begin: Begin):
        super().__init__()
        self._begin = begin
        self._entries: SimpleQueue[Call | End] = SimpleQueue()
        self.complete = False

    def put(self, entry: Call | End) -> None:
        """Have an entry written, in its turn. What comes last is the end."""
        self._entries.put(entry)

    def run(self) -> None:
        """Write until the end has come, and a line for every call that was sent."""
        try:
            print(self._begin, flush=True)
            end = None
            written = 0
            while end is None or written < end.sent:
                entry = self._entries.get()
                if isinstance(entry, End):
                    end = entry
                else:
                    print(entry, flush=True)
                    written += 1
            print(end, flush=True)
        except OSError:
            # Nobody reads any more: calls that nobody can account for are of no use.
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.complete = True


class _Caller:
    """Sends calls, and has the outcome of each written."""

    def __init__(self, channel: grpc.Channel, deadline: float, writer: _Writer):
        self._predict = PredictionServiceStub(channel).Predict  # type: ignore[no-untyped-call] # as generated
        self._deadline = deadline
        self._writer = writer
        self._record = Record(features={name: Value(number=value) for name, value in _TRANSACTION.items()})

    def send(self, number: int) -> None:
        """Send a call, and return at once."""
        request = PredictRequest(model="fraud", record=self._record, request_id=str(number))
        sent, begun = time.time(), time.monotonic()

        def done(answer: "grpc.Future[PredictResponse]") -> None:
            self._writer.put(_outcome(answer, number, sent, time.monotonic() - begun))

        self._predict.future(request, timeout=self._deadline).add_done_callback(done)


def _outcome(answer: "grpc.Future[PredictResponse]", number: int, sent: float, seconds: float) -> Call:
    try:
        response = answer.result()
    except grpc.RpcError as error:
        failure = failure_of(error)
        return Call(number, sent, seconds, failure.code.name, details=failure.message)
    if response.request_id != str(number):
        details = f"the answer is for the request {response.request_id!r}"
        return Call(number, sent, seconds, "WRONG_ANSWER", details=details)
    return Call(number, sent, seconds, "OK", response.version, response.digest)


def main() -> int:
    """Call until SIGTERM, wait for what is in flight, and return 0 if the log is complete."""
    arguments = _arguments()
    # Before there are threads, for they inherit it: the signal waits until the loop below asks for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    writer = _Writer(Begin(time.time(), **vars(arguments)))
    writer.start()
    sent = 0
    with open_channel(arguments.target, retries=arguments.retries) as channel:
        caller = _Caller(channel, arguments.deadline, writer)
        begun = time.monotonic()
        while not signal.sigtimedwait(_ENDING, max(0.0, begun + sent / arguments.rate - time.monotonic())):
            sent += 1
            caller.send(sent)
        writer.put(End(time.time(), sent))
        writer.join()
    return 0 if writer.complete else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="caller",
        description="Score a transaction with the model fraud at a constant rate until SIGTERM.",
        epilog="One line a call goes to standard output. Exit status: 0, or 1 if that was closed.",
    )
    parser.add_argument("target", metavar="TARGET", help="dns:///NAME:PORT")
    parser.add_argument("--rate", type=_above_zero, default=50.0, help="calls a second (%(default)g)")
    parser.add_argument(
        "--deadline",
        type=_above_zero,
        default=1.0,
        metavar="SECONDS",
        help="how long a call may take (%(default)g)",
    )
    parser.add_argument(
        "--retries", action="store_true", help="with the retry policy of the service config (without)"
    )
    return parser.parse_args()


def _above_zero(text: str) -> float:
    try:
        if 0 < float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


if __name__ == "__main__":
    sys.exit(main())
