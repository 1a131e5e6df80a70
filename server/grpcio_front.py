"""The first front: carries calls between grpcio and the core.

It runs on grpcio's own C core, through the interface that grpcio's servers themselves are written on
(`grpc._cython.cygrpc`): a completion queue gives events, each with the function to call for it, and one
thread calls them. No call is handed to another thread, unless what it asks for takes long (`server.turns`).
Requests that have arrived together are answered together: first all are scored, then all answers are sent, so
that each step finds its code still in the processor's caches. The interface is not a public one: grpcio is
pinned, and tests/server/test_grpcio_front.py holds what is relied upon. See
docs/decisions/0003-unary-path.md.
"""

import logging
import math
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from server import call_log, log
from server.call import Call, Exchange, Handler, Metadata, Method, Subscription, Unary, Work
from server.calls import Calls, End, MethodCalls
from server.followed import Followed
from server.port import taken
from server.status import Code, StatusError
from server.tls import Certificates
from server.turns import Turns

_log = logging.getLogger(__name__)

# Of metadata that is no UTF-8 it would write the value, which may be a token, and a traceback.
logging.getLogger(cygrpc.__name__).addFilter(
    lambda record: not str(record.msg).startswith("Invalid encoding")
)

_FLAGS = 0
_REQUEST = object()
_SHUTDOWN = object()
_NOW = 0.0
_TIMEOUT = cygrpc.CompletionType.queue_timeout
# Seconds in which calls that are cancelled have ended, unless a thread hangs.
_CANCELLING = 2.0
# So many requests are answered together at most: the first of them waits for the last, about 1 ms.
_BURST = 64
# Calls that have arrived and wait to be taken: about 0.6 s of work. The C core cancels those beyond.
_MOST_WAITING = 10_000
_READ_AHEAD = 256 * 1024
_PUSHBACK = "grpc-retry-pushback-ms"
_FAULT = "a fault of the server; its log has more"


class GrpcioFront:
    """A gRPC server with a thread of its own.

    Parameters
    ----------
    name
        The thread's name, for logs.
    methods
        What is called, by path, as ``/grpc.health.v1.Health/Check``.
    address
        Where to listen, as ``localhost:50051``. Port 0 takes any free one.
    options
        Channel arguments of the C core.
    exchange_age
        Seconds after which an exchange is ended, when the request in hand is answered.
    certificates
        For TLS. Each new connection gets those that are the newest.
    calls
        Where note is taken of calls; None for nowhere.
    commit
        Called before answers are sent. What it raises is sent instead, to calls whose answer is on record.
    shared
        Whether other processes listen there too, and each gets a part of the connections. The port is then
        one that `server.port.SharedPort` holds, and this front listens from its start on.

    Attributes
    ----------
    port : int
        The port that it listens on.

    Raises
    ------
    OSError
        If it cannot listen there.
    """

    def __init__(
        self,
        name: str,
        methods: Mapping[str, Method],
        address: str,
        options: Sequence[tuple[str, int]] = (),
        *,
        exchange_age: float = math.inf,
        certificates: Followed[Certificates] | None = None,
        calls: Calls | None = None,
        commit: Callable[[], None] | None = None,
        shared: bool = False,
    ):
        calls = calls or Calls()
        self._methods = {path.encode(): (method, calls.of(path, method)) for path, method in methods.items()}
        self._unknown = calls.of("")
        self._commit = commit
        self._queue = cygrpc.CompletionQueue()
        # Without so_reuseport=0 two servers could share a port unasked, and each get a part of the calls.
        # Without bdp_probe=0 the C core would take in some MiB of each stream that is not read yet, and not
        # 256 KiB and the message in hand. With its own 64 KiB a batch of 1,024 rows would come in parts.
        # By default the C core would cancel calls at random once a thousand wait to be taken.
        own = (
            ("grpc.so_reuseport", int(shared)),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", _READ_AHEAD),
            ("grpc.server.max_pending_requests", _MOST_WAITING),
            ("grpc.server.max_pending_requests_hard_limit", _MOST_WAITING),
        )
        self._server = cygrpc.Server((*own, *options), False)
        self._server.register_completion_queue(self._queue)
        self._named = bool(certificates and certificates.value.client_ca)
        self._address = address
        self._credentials = _credentials(certificates) if certificates else None
        self._shared = shared
        self.port: int = int(address.rpartition(":")[2]) if shared else self._listen()
        # Calls and the request for the next one: the loop ends when there are none, after shutdown.
        self._open: set[object] = set()
        self._arrived: list[_UnaryCall | _ExchangeCall] = []
        # Of calls that were just answered, until all that came with them are.
        self._ends: defaultdict[MethodCalls, list[End]] = defaultdict(list)
        self._exchange_age = exchange_age
        # Until when each may last: those that began first come first.
        self._exchanges: dict[_ExchangeCall, float] = {}
        self._turns = Turns(f"{name} turns")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to answer calls."""
        if self._shared:
            # Not before: from now on the kernel gives it connections that others would answer at once.
            self._listen()
        self._server.start()
        self._request()
        self._turns.start()
        self._thread.start()

    def stop(self, grace: float) -> bool:
        """Stop. New calls are refused; those in hand have ``grace`` seconds to finish.

        Returns
        -------
        bool
            Whether all has ended. It has not where the system holds up a thread, as a disk does that hangs.
        """
        self._stopping = True
        self._open.add(_SHUTDOWN)
        self._server.shutdown(self._queue, _SHUTDOWN)
        for call in self._open.copy():
            if isinstance(call, _SubscriptionCall):
                call.fail(_stops())
            elif isinstance(call, _ExchangeCall):
                call.end(_stops())
        end = time.monotonic() + grace + _CANCELLING
        self._thread.join(grace)
        if self._thread.is_alive():
            self._server.cancel_all_calls()
            self._thread.join(_CANCELLING)
        if self._thread.is_alive() or not self._turns.stop(max(end - time.monotonic(), 0)):
            _log.error("the thread %r, or that of its turns, hangs", self._thread.name)
            return False
        self._server.destroy()
        return True

    def _listen(self) -> int:
        try:
            port: int = (
                0
                if not self._shared and taken(self._address)
                else self._server.add_http2_port(self._address.encode(), self._credentials)
            )
        except RuntimeError:
            port = 0
        if not port:
            also = ", or does gRPC not take the certificate" if self._credentials else ""
            raise OSError(f"cannot listen on {self._address}: is something else listening there{also}?")
        return port

    def _request(self) -> None:
        self._open.add(_REQUEST)
        try:
            self._server.request_call(self._queue, self._queue, _REQUEST)
        except BaseException:
            self._open.discard(_REQUEST)
            # A call that had arrived when the server was told to stop is answered, and no more are taken.
            if not self._stopping:
                raise

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException:
            # Nobody would be answered any more, while the health port goes on to say that all is well.
            _log.critical("the thread %r has ended: so must the process", self._thread.name, exc_info=True)
            logging.shutdown()
            os._exit(1)

    def _loop(self) -> None:
        poll = self._queue.poll
        arrived = self._arrived
        while self._open:
            event = poll(_NOW if arrived else self._next_end())
            tag = event.tag
            if event.completion_type == _TIMEOUT:
                self._answer()
                self._end_exchanges()
            elif tag is _REQUEST:
                self._open.discard(_REQUEST)
                if event.success:
                    self._request()
                    self._accept(event)
            elif tag is _SHUTDOWN:
                self._open.discard(_SHUTDOWN)
            else:
                try:
                    tag(event)
                except BaseException:
                    # A fault of one call must not end the others.
                    _log.exception("fault while handling an event")
                if len(arrived) >= _BURST:
                    self._answer()
            # The C core spins if it is polled while somebody holds an event of a call that has ended.
            event = tag = None

    def _answer(self) -> None:
        """Answer the requests that have arrived."""
        calls = self._arrived.copy()
        self._arrived.clear()
        answers = [call.answer() for call in calls]
        if self._commit and (error := self.uncommitted()):
            answers = [
                _sendable(call.context, answer, error) for call, answer in zip(calls, answers, strict=True)
            ]
        for call, answer in zip(calls, answers, strict=True):
            try:
                call.send(answer)
            except BaseException:
                _log.exception("fault while sending an answer")
                call.abandon()
        for counts, ends in self._ends.items():
            try:
                counts.ended_together(ends)
            except BaseException:
                _log.exception("fault while counting calls")
        self._ends.clear()

    def uncommitted(self) -> BaseException | None:
        """Have on record what is to be there before answers are sent; return why it is not."""
        try:
            if self._commit:
                self._commit()
        except BaseException as error:
            return error
        return None

    def _next_end(self) -> float | None:
        """Return when the next exchange is to be ended, if there is any."""
        return next(iter(self._exchanges.values()), None)

    def _end_exchanges(self) -> None:
        """End the exchanges that have come of age."""
        if self._exchanges:
            now = time.time()
            for call, end in list(self._exchanges.items()):
                if end > now:
                    break
                del self._exchanges[call]
                call.end(_of_age())

    def _accept(self, event: Any) -> None:
        details, call = event.call_details, event.call
        context = Call(details.deadline, event.invocation_metadata, lambda: call.peer().decode())
        if self._named:
            context.names = lambda: [
                name.decode(errors="replace") for name in cygrpc.peer_identities(call) or ()
            ]
        method, calls = self._methods.get(details.method) or (None, self._unknown)
        calls.started()
        try:
            if type(method) is Unary:
                _UnaryCall(self, call, context, calls, method.handle)
            elif type(method) is Exchange:
                exchange = _ExchangeCall(self, call, context, calls, method.handle)
                if self._stopping:
                    exchange.end(_stops())
            elif type(method) is Subscription:
                subscription = _SubscriptionCall(self._open, call, context, calls, method.subscribe)
                if self._stopping:
                    subscription.fail(_stops())
            else:
                _UnaryCall(self, call, context, calls, _unimplemented(details.method))
        except BaseException:
            _log.exception("fault while accepting a call")
            call.cancel(int(Code.INTERNAL), _FAULT)
            calls.ended(context, Code.INTERNAL, perf_counter_ns())


class _UnaryCall:
    """Reads the request; then sends response, status and all in one go."""

    __slots__ = ("_call", "_calls", "_front", "_handle", "_request", "context")

    def __init__(self, front: GrpcioFront, call: Any, context: Call, calls: MethodCalls, handle: Handler):
        self._front = front
        self._call = call
        self.context = context
        self._calls = calls
        self._handle = handle
        self._request = b""
        _start(call, (cygrpc.ReceiveMessageOperation(_FLAGS),), self._received)
        front._open.add(self)

    def answer(self) -> "_Answer":
        """Return the response, or the work that gives it, or why there is none."""
        return _answer(self._handle, self._request, self.context)

    def send(self, answer: "_Answer") -> None:
        """Send what `answer` returned."""
        if isinstance(answer, (bytes, BaseException)):
            operations = (
                *_response_operations(answer, self.context),
                cygrpc.ReceiveCloseOnServerOperation(_FLAGS),
            )
            _start(self._call, operations, self._finished)
            self._front._ends[self._calls].append(_end(self.context, answer))
        else:
            self._front._open.discard(self)
            _LongCall(self._front, self._call, self.context, self._calls, answer)

    def abandon(self) -> None:
        """End a call whose answer cannot be sent."""
        self._front._open.discard(self)
        self._call.cancel(int(Code.INTERNAL), _FAULT)
        self._calls.ended(self.context, Code.INTERNAL, perf_counter_ns())

    def _received(self, event: Any) -> None:
        request = event.batch_operations[0].message()
        if request is None:
            self._refuse()
            return
        self._request = request
        self.context.arrived = perf_counter_ns()
        self._calls.received()
        self._front._arrived.append(self)

    def _refuse(self) -> None:
        """End a call that came without a message: its caller sends none, or has gone before."""
        operations = (
            *_response_operations(_no_message(), self.context),
            cygrpc.ReceiveCloseOnServerOperation(_FLAGS),
        )
        try:
            _start(self._call, operations, self._refused)
        except BaseException:
            self.abandon()
            raise

    def _refused(self, event: Any) -> None:
        self._front._open.discard(self)
        gone = event.batch_operations[-1].cancelled()
        self._calls.ended(self.context, Code.CANCELLED if gone else Code.INVALID_ARGUMENT, perf_counter_ns())

    def _finished(self, _event: Any) -> None:
        self._front._open.discard(self)


class _LongCall:
    """A call with one request whose response takes long. It finds out if its caller goes meanwhile."""

    def __init__(self, front: GrpcioFront, call: Any, context: Call, calls: MethodCalls, work: Work):
        self._front = front
        self._open = front._open
        self._call = call
        self._context = context
        self._calls = calls
        self._ended = 0
        try:
            _start(call, (cygrpc.ReceiveCloseOnServerOperation(_FLAGS),), self._closed)
        except BaseException:
            work.close()
            raise
        front._open.add(self)
        front._turns.add(work, context, self._done)

    def _done(self, answer: bytes | BaseException) -> None:
        self._context.finished = perf_counter_ns()
        if self._context.recorded and (error := self._front.uncommitted()):
            answer = error
        try:
            _start(self._call, _response_operations(answer, self._context), self._sent)
        except BaseException:
            self._open.discard(self)
            self._call.cancel(int(Code.INTERNAL), _FAULT)
            self._calls.ended(self._context, Code.INTERNAL, perf_counter_ns())
            raise
        self._calls.ended_together([_end(self._context, answer)])

    def _closed(self, event: Any) -> None:
        self._context.cancelled = bool(event.batch_operations[0].cancelled())
        self._end()

    def _sent(self, _event: Any) -> None:
        self._end()

    def _end(self) -> None:
        self._ended += 1
        if self._ended == 2:
            self._open.discard(self)


class _StreamCall:
    """What calls with more than one message have in common: two halves that end apart."""

    def __init__(self, open_calls: set[object], call: Any, context: Call, calls: MethodCalls):
        self._open = open_calls
        self._call = call
        self.context = context
        self._calls = calls
        # The status, once it is known. A caller who goes before has cancelled the call.
        self._code = Code.CANCELLED
        # Held by who starts operations: a subscription's messages come from any thread.
        self._lock = threading.RLock()
        self._begun = False
        self._statused = False
        self._pending = 0
        with self._lock:
            self._start((cygrpc.ReceiveCloseOnServerOperation(_FLAGS),), self._closed)
            open_calls.add(self)
            self._receive()

    def fail(self, error: BaseException) -> None:
        """End the call with an error's status, or with OK by `_finish`."""
        self._finish(_status_operation(error, self.context), _code(error))

    def _start(self, operations: tuple[Any, ...], then: Callable[[Any], None]) -> None:
        def completed(event: Any) -> None:
            try:
                then(event)
            finally:
                with self._lock:
                    self._pending -= 1
                    if not self._pending:
                        self._leave()

        with self._lock:
            _start(self._call, operations, completed)
            self._pending += 1

    def _receive(self) -> None:
        self._start((cygrpc.ReceiveMessageOperation(_FLAGS),), self._received)

    def _begin(self) -> tuple[Any, ...]:
        if self._begun:
            return ()
        self._begun = True
        return (cygrpc.SendInitialMetadataOperation(None, _FLAGS),)

    def _finish(self, status: Any, code: Code) -> None:
        with self._lock:
            if not self._statused:
                self._statused = True
                self._code = code
                self._start((*self._begin(), status), _nothing)

    def _received(self, event: Any) -> None:
        raise NotImplementedError

    def _closed(self, event: Any) -> None:
        """Take note that the call is over, cancelled or not."""

    def _leave(self) -> None:
        """Take note that nothing of the call is to come any more."""
        self._open.discard(self)
        self._calls.ended(self.context, self._code, perf_counter_ns())


class _ExchangeCall(_StreamCall):
    """Reads a message, answers it, reads the next: who does not read answers is not read from.

    An answer is sent and the next message awaited in one go: that is one event for each message. While a
    message is being answered the call is not ended, but for an error of its own.
    """

    def __init__(self, front: GrpcioFront, call: Any, context: Call, calls: MethodCalls, handle: Handler):
        self._front = front
        self._handle = handle
        self._request = b""
        self._busy = False
        self._ending: BaseException | None = None
        super().__init__(front._open, call, context, calls)
        if front._exchange_age < math.inf:
            front._exchanges[self] = time.time() + front._exchange_age

    def answer(self) -> "_Answer":
        """Return the response, or the work that gives it, or why there is none."""
        return _answer(self._handle, self._request, self.context)

    def send(self, answer: "_Answer") -> None:
        """Send what `answer` returned."""
        if isinstance(answer, (bytes, BaseException)):
            self._reply(answer)
        else:
            self._front._turns.add(answer, self.context, self._hand_over)

    def abandon(self) -> None:
        """End a call whose answer cannot be sent."""
        self._call.cancel(int(Code.INTERNAL), _FAULT)

    def end(self, error: BaseException) -> None:
        """End the call with an error's status, after the answer to the message in hand."""
        with self._lock:
            self._ending = error
            if not self._busy:
                self.fail(error)

    def _received(self, event: Any) -> None:
        request = event.batch_operations[-1].message() if event.success else None
        with self._lock:
            if self._statused:
                return
            if request is None:
                self._finish(cygrpc.SendStatusFromServerOperation(None, 0, b"", _FLAGS), Code.OK)
                return
            self._busy = True
            self._request = request
        self.context.arrived = perf_counter_ns()
        self.context.scored = 0
        self._calls.received()
        self._front._arrived.append(self)

    def _hand_over(self, answer: bytes | BaseException) -> None:
        self.context.finished = perf_counter_ns()
        if self.context.recorded and (error := self._front.uncommitted()):
            answer = error
        try:
            self._reply(answer)
        except BaseException:
            self.abandon()
            raise

    def _reply(self, answer: bytes | BaseException) -> None:
        with self._lock:
            self._busy = False
            self._request = b""
            if isinstance(answer, BaseException):
                self.fail(answer)
            elif not self._statused:
                sending = (*self._begin(), cygrpc.SendMessageOperation(answer, _FLAGS))
                self._calls.answered(self.context)
                if self._ending:
                    self._statused = True
                    self._code = _code(self._ending)
                    ending = _status_operation(self._ending, self.context)
                    self._start((*sending, ending), _nothing)
                else:
                    self._start((*sending, cygrpc.ReceiveMessageOperation(_FLAGS)), self._received)

    def _closed(self, event: Any) -> None:
        self.context.cancelled = bool(event.batch_operations[0].cancelled())

    def _leave(self) -> None:
        super()._leave()
        self._front._exchanges.pop(self, None)


class _SubscriptionCall(_StreamCall):
    """Reads the one request, then sends whatever comes, the newest last."""

    def __init__(
        self,
        open_calls: set[object],
        call: Any,
        context: Call,
        calls: MethodCalls,
        subscribe: Callable[[bytes, Call, Callable[[bytes], None]], Callable[[], None]],
    ):
        self._subscribe = subscribe
        self._unsubscribe: Callable[[], None] | None = None
        self._over = False
        self._sending = False
        self._newest: bytes | None = None
        super().__init__(open_calls, call, context, calls)

    def send(self, message: bytes) -> None:
        """Send a message now, or when the one before it is on its way."""
        with self._lock:
            if self._statused or self._over:
                return
            if self._sending:
                self._newest = message
                return
            self._start((*self._begin(), cygrpc.SendMessageOperation(message, _FLAGS)), self._sent)
            self._sending = True
            self._calls.answered(self.context)

    def _received(self, event: Any) -> None:
        request = event.batch_operations[0].message()
        try:
            if request is None:
                raise _no_message()
            self._calls.received()
            self._unsubscribe = self._subscribe(request, self.context, self.send)
        except BaseException as error:
            self.fail(error)
        if self._over:
            self._end()

    def _sent(self, event: Any) -> None:
        with self._lock:
            self._sending = False
            newest, self._newest = self._newest, None
            # Still under the lock: a message that is newer yet must not come before this one.
            if newest is not None and event.success:
                self.send(newest)

    def _closed(self, event: Any) -> None:
        self._over = True
        if event.batch_operations[0].cancelled():
            self._code = Code.CANCELLED
        self._end()

    def _end(self) -> None:
        if self._unsubscribe:
            self._unsubscribe()


def _start(call: Any, operations: tuple[Any, ...], then: Callable[[Any], None]) -> None:
    """Start operations of a call; ``then`` is called when they are done, and never if they cannot start."""
    error = call.start_server_batch(operations, then)
    if error:
        raise RuntimeError(f"the C core starts no operations: error {error}")


_Answer = bytes | BaseException | Work


def _answer(handle: Handler, request: bytes, context: Call) -> _Answer:
    """Return a handler's answer, or its work after the first step, or why there is none."""
    context.begun = perf_counter_ns()
    try:
        answer: _Answer = handle(request, context)
        if type(answer) is not bytes:
            answer = _begun(answer) if isinstance(answer, Generator) else _no_bytes(answer)
    except BaseException as error:
        return error
    context.finished = perf_counter_ns()
    return answer


def _sendable(context: Call, answer: _Answer, error: BaseException) -> _Answer:
    """Return an answer, or why it must not be sent: its record could not be kept."""
    return error if context.recorded and isinstance(answer, bytes) else answer


def _code(answer: bytes | BaseException) -> Code:
    """Return the status that an answer comes with."""
    if isinstance(answer, bytes):
        return Code.OK
    return answer.code if isinstance(answer, StatusError) else Code.INTERNAL


def _end(context: Call, answer: bytes | BaseException) -> End:
    """Return the end of a unary call that has just been answered."""
    return context, _code(answer), perf_counter_ns(), isinstance(answer, bytes)


def _begun(work: Work) -> _Answer:
    """Return work after its first step, or its result if that was the last."""
    try:
        next(work)
    except StopIteration as stopped:
        return stopped.value if type(stopped.value) is bytes else _no_bytes(stopped.value)
    return work


def _response_operations(answer: bytes | BaseException, context: Call) -> tuple[Any, ...]:
    """Return what sends the one response of a call, or its error, from beginning to end."""
    if isinstance(answer, bytes):
        return (
            cygrpc.SendInitialMetadataOperation(None, _FLAGS),
            cygrpc.SendMessageOperation(answer, _FLAGS),
            cygrpc.SendStatusFromServerOperation(None, 0, b"", _FLAGS),
        )
    return cygrpc.SendInitialMetadataOperation(None, _FLAGS), _status_operation(answer, context)


def _status_operation(error: BaseException, context: Call) -> Any:
    """Return what tells a caller of an error: its own if it is a StatusError, else that there was a fault."""
    metadata: Metadata | None = None
    if isinstance(error, StatusError):
        code, message = error.code, error.message
        if error.details:
            metadata = (("grpc-status-details-bin", error.to_bytes()),)
        for detail in error.details:
            if isinstance(detail, RetryInfo):
                # What a client's own retries obey.
                metadata = (*(metadata or ()), (_PUSHBACK, str(detail.retry_delay.ToMilliseconds())))
    else:
        _log.error("fault while answering a call", exc_info=error, extra=log.about(call_log.names(context)))
        code, message = Code.INTERNAL, _FAULT
    # The frames that it came through hold the request, the call and, by who called them, the error itself:
    # all that would stay until Python looks for cycles, which it does by the number of objects and not by
    # their size. Of batches of 1 MB that failed, hundreds stayed.
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return cygrpc.SendStatusFromServerOperation(metadata, int(code), message.encode(), _FLAGS)


def _unimplemented(path: bytes) -> Handler:
    def refuse(_request: bytes, _call: Call) -> bytes:
        raise StatusError(Code.UNIMPLEMENTED, f"no method {path[:128].decode(errors='replace')}")

    return refuse


def _credentials(certificates: Followed[Certificates]) -> Any:
    """Return what the C core asks for certificates, connection by connection."""
    given = certificates.value

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(given.key, given.chain)], given.client_ca)

    def newest() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        if given is certificates.value:
            # Nothing new. That the C core takes this for an answer is missing in grpcio's types.
            return None
        given = certificates.value
        return configuration()

    credentials: Any = grpc.dynamic_ssl_server_credentials(
        configuration(),
        newest,  # type: ignore[arg-type]
        require_client_authentication=given.client_ca is not None,
    )
    return credentials._credentials


def _stops() -> StatusError:
    return StatusError(Code.UNAVAILABLE, "the server stops: call another")


def _of_age() -> StatusError:
    return StatusError(
        Code.UNAVAILABLE, "the stream has come of age: open another, and send again what was not answered"
    )


def _no_bytes(answer: object) -> TypeError:
    return TypeError(f"a method answered {type(answer).__name__}, not bytes")


def _no_message() -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, "the call ended without a request")


def _nothing(_event: Any) -> None:
    """Wait for nothing more."""
