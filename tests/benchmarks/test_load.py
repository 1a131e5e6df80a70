"""What counts as measured: every call answered, with the right number of bytes."""

import shutil
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from itertools import count
from typing import Any

import grpc
import pytest

from benchmarks import load

pytestmark = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load is missing: on Debian, apt-get install nghttp2-client"
)
PATH = "/test.Service/Call"


@contextmanager
def _serving(answer: Callable[[bytes, Any], bytes]) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Service", {"Call": handler}),)
    )
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield f"http://localhost:{port}{PATH}"
    finally:
        server.stop(None).wait()


def _echo(request: bytes, _context: Any) -> bytes:
    return request


def test_all_calls_are_answered() -> None:
    with _serving(_echo) as url:
        run = load.run(load.Call(url, load.framed([b"hello"]), received=10), calls=200)
    assert run.rate > 0
    assert 0 < run.mean <= run.worst
    assert run.p99 <= run.worst


def test_calls_at_a_rate_are_answered() -> None:
    with _serving(_echo) as url:
        run = load.run_at(load.Call(url, load.framed([b"hello"]), received=10), rate=400, seconds=1.0)
    assert run.rate > 0
    assert 0 < run.mean <= run.worst


def test_one_call_that_fails_by_its_status_is_found() -> None:
    number = count()

    def answer(request: bytes, context: Any) -> bytes:
        if next(number) == 100:
            context.abort(grpc.StatusCode.INTERNAL, "the hundredth fails")
        return request

    with (
        _serving(answer) as url,
        pytest.raises(load.WrongAnswerError, match="1990 bytes of messages came, not 2000"),
    ):
        load.run(load.Call(url, load.framed([b"hello"]), received=10), calls=200)


def test_an_answer_of_another_length_is_found() -> None:
    with _serving(lambda request, _context: request + b"!") as url, pytest.raises(load.WrongAnswerError):
        load.run(load.Call(url, load.framed([b"hello"]), received=10), calls=64)


def test_percentiles() -> None:
    run = load.Run.of([float(number) for number in range(100, 0, -1)], rate=1.0)
    assert (run.mean, run.p99, run.worst) == (50.5, 99.0, 100.0)
    assert load.Run.of([3.0], rate=1.0).p99 == 3.0
