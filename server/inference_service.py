"""`inference.GRPCInferenceService`, the Open Inference Protocol v2: the same scores by way of tensors."""

from collections.abc import Iterable, Mapping

import numpy as np
from inference import grpc_service_pb2 as pb
from numpy.typing import NDArray

from model_bundle.bundle import Bundle
from model_bundle.decision import Decision, Estimate
from model_bundle.encoding import InvalidRows, OddRows
from server import VERSION, scoring
from server.admission import Admission
from server.call import Call, Method, Unary, Work
from server.catalog import Catalog
from server.decoding import decoded
from server.health import LIVENESS, Health
from server.models import Model
from server.outline import OutlineError, fields
from server.scoring import Scored
from server.status import invalid_fields, invalid_rows, undecodable
from server.tensors import DATATYPES, MOST_FAULTS, SHOWN, Tensors

# In the protocol's words: the runtime, and the format of what it runs.
_PLATFORM = "onnxruntime_onnx"
# Requests above this size are looked at before they are decoded: a message within them may have two bytes and
# take a hundred in memory. There is room for two thousand tensors.
_SMALL = 16 * 1024
_MOST_FIELDS = 16 * 1024
_TENSORS = [pb.ModelInferRequest.DESCRIPTOR.fields_by_name[name].number for name in ("inputs", "outputs")]
_LENGTH_DELIMITED = 2


class InferenceService:
    """Scores rows that come as tensors.

    Parameters
    ----------
    models
        Where requests find their model.
    health
        What says whether the server and its models may be called.
    admission
        What many rows need to be taken: the same as that of other services.
    """

    name = "inference.GRPCInferenceService"

    def __init__(self, models: Catalog, health: Health, admission: Admission):
        self._models = models
        self._health = health
        self._admission = admission

    def methods(self) -> Mapping[str, Method]:
        """Return the service's methods by name."""
        return {
            "ServerLive": Unary(self.server_live),
            "ServerReady": Unary(self.server_ready),
            "ModelReady": Unary(self.model_ready),
            "ServerMetadata": Unary(self.server_metadata),
            "ModelMetadata": Unary(self.model_metadata),
            "ModelInfer": Unary(self.model_infer),
        }

    def server_live(self, data: bytes, _call: Call) -> bytes:
        """Answer whether the server answers: a serialised ServerLiveRequest in, a ServerLiveResponse out."""
        decoded(pb.ServerLiveRequest, data)
        return pb.ServerLiveResponse(live=self._health.serving(LIVENESS)).SerializeToString()

    def server_ready(self, data: bytes, _call: Call) -> bytes:
        """Answer whether the server may be called: a ServerReadyRequest in, a ServerReadyResponse out."""
        decoded(pb.ServerReadyRequest, data)
        return pb.ServerReadyResponse(ready=self._health.serving(self.name)).SerializeToString()

    def model_ready(self, data: bytes, _call: Call) -> bytes:
        """Answer whether a model may be called: a ModelReadyRequest in, a ModelReadyResponse out."""
        request = decoded(pb.ModelReadyRequest, data)
        model = self._models.find(request.name, request.version)
        ready = model.bundle is not None and self._health.serving(f"models/{model.name}")
        return pb.ModelReadyResponse(ready=ready).SerializeToString()

    def server_metadata(self, data: bytes, _call: Call) -> bytes:
        """Answer what server this is: a ServerMetadataRequest in, a ServerMetadataResponse out."""
        decoded(pb.ServerMetadataRequest, data)
        return pb.ServerMetadataResponse(name="forest-serving", version=VERSION).SerializeToString()

    def model_metadata(self, data: bytes, _call: Call) -> bytes:
        """Answer a model's tensors: a serialised ModelMetadataRequest in, a ModelMetadataResponse out."""
        request = decoded(pb.ModelMetadataRequest, data)
        model, bundle = self._models.serving(request.name, request.version)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=model.name,
            versions=[each.version for each in self._models.found if each.name == model.name and each.bundle],
            platform=_PLATFORM,
            inputs=[
                tensor(name=feature.name, datatype=DATATYPES[feature.type], shape=[-1])
                for feature in bundle.encoder.features
            ],
            outputs=[
                tensor(name=name, datatype=datatype, shape=[-1])
                for name, datatype in _outputs(bundle.decision).items()
            ],
        ).SerializeToString()

    def model_infer(self, data: bytes, call: Call) -> Work:
        """Score many rows: a serialised ModelInferRequest in, a serialised ModelInferResponse out.

        Few rows take one step, and so no change of threads.
        """
        request = _decoded_infer(data)
        call.request_id = request.id
        model, bundle = self._models.serving(request.model_name, request.model_version)
        call.model = model.name
        wanted = _wanted(request.outputs, _outputs(bundle.decision))
        tensors = Tensors(request, bundle.encoder, self._admission.max_batch_rows)
        with self._admission.admitted(tensors.rows):
            if tensors.rows > scoring.FEW:
                yield
            try:
                matrix = yield from tensors.decode(call)
                scored = yield from scoring.score(bundle, model.decisions, matrix, call)
            except InvalidRows as error:
                raise invalid_rows(tensors.explained(error.faults)) from error
            return _response(request, model, bundle, scored, wanted).SerializeToString()


def _decoded_infer(data: bytes) -> pb.ModelInferRequest:
    if len(data) > _SMALL:
        try:
            most = _MOST_FIELDS
            for number, wire_type, start, end in fields(data, 0, len(data), most):
                most -= 1
                if number in _TENSORS and wire_type == _LENGTH_DELIMITED:
                    most -= sum(1 for _ in fields(data, start, end, most))
        except OutlineError as error:
            raise undecodable(pb.ModelInferRequest.DESCRIPTOR.full_name, str(error)) from error
    return decoded(pb.ModelInferRequest, data)


def _outputs(decision: Decision | Estimate) -> dict[str, str]:
    """Return the datatype of each output, by name."""
    names = (
        {"probability": "FP64", "label": "BYTES", "risk_level": "BYTES"}
        if isinstance(decision, Decision)
        else dict.fromkeys(("value", "low", "high"), "FP64")
    )
    return names | {"out_of_range": "BYTES"}


def _wanted(
    requested: Iterable[pb.ModelInferRequest.InferRequestedOutputTensor], known: dict[str, str]
) -> dict[str, str]:
    """Return the datatype of each output that is wanted, in order."""
    wanted: dict[str, str] = {}
    faults: list[tuple[str, str, str]] = []
    for output in requested:
        shown = output.name[:SHOWN]
        place = f"outputs.{shown}"
        if output.name not in known:
            message = f"{shown!r} is none of the model's outputs, which are {', '.join(known)}"
            faults.append((place, "UNKNOWN_OUTPUT", message))
        elif output.name in wanted:
            faults.append((place, "DUPLICATE", f"{shown}: it is requested twice"))
        else:
            wanted[output.name] = known[output.name]
            for name in output.parameters:
                if name == "classification" or name.startswith("shared_memory_"):
                    message = f"{shown}: there is no {name[:SHOWN]} here: request it without"
                    faults.append((f"{place}.parameters", "UNSUPPORTED", message))
        if len(faults) >= MOST_FAULTS:
            break
    if faults:
        raise invalid_fields(faults)
    return wanted or known


def _response(
    request: pb.ModelInferRequest, model: Model, bundle: Bundle, scored: Scored, wanted: dict[str, str]
) -> pb.ModelInferResponse:
    decision = bundle.decision
    rows = len(scored.scores)
    response = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    response.parameters["digest"].string_param = model.digest
    if isinstance(decision, Decision):
        response.parameters["threshold"].double_param = decision.threshold
    else:
        response.parameters["coverage"].double_param = decision.coverage
    for name, datatype in wanted.items():
        output = response.outputs.add(name=name, datatype=datatype, shape=[rows])
        found = _elements(name, decision, scored)
        if request.raw_input_contents:
            response.raw_output_contents.append(_raw(found))
        elif isinstance(found, list):
            output.contents.bytes_contents.extend(found)
        else:
            output.contents.fp64_contents.extend(found.tolist())
    return response


def _elements(name: str, decision: Decision | Estimate, scored: Scored) -> NDArray[np.float64] | list[bytes]:
    """Return the elements of an output: numbers, or texts."""
    scores = scored.scores
    if name == "out_of_range":
        return _out_of_range(len(scores), scored.odd)
    if name in ("probability", "value"):
        return scores
    if isinstance(decision, Decision):
        if name == "label":
            return _chosen(decision.labels, decision.label_indices(scores))
        return _chosen(decision.risk_levels, decision.risk_level_indices(scores))
    lows, highs = decision.intervals(scores)
    return lows if name == "low" else highs


def _chosen(texts: Iterable[str], places: NDArray[np.intp]) -> list[bytes]:
    encoded = [text.encode() for text in texts]
    return [encoded[place] for place in places.tolist()]


def _out_of_range(rows: int, odd: list[OddRows]) -> list[bytes]:
    """Return the names of each row's features with values outside the range of training."""
    names = [b""] * rows
    for each in odd:
        name = each.feature.encode()
        for row in each.rows.tolist():
            names[row] = names[row] + b", " + name if names[row] else name
    return names


def _raw(elements: NDArray[np.float64] | list[bytes]) -> bytes:
    """Return elements as raw contents have them: little-endian, and each text with its length before it."""
    if isinstance(elements, list):
        with_length = {text: len(text).to_bytes(4, "little") + text for text in set(elements)}
        return b"".join(map(with_length.__getitem__, elements))
    return elements.astype("<f8", copy=False).tobytes()
