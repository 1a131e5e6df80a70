"""The whole core, driven in a process where `import grpc` fails."""

import subprocess
import sys
from pathlib import Path

_SCRIPT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("grpc", "pyvoy", "uvloop"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
try:
    import grpc
except ImportError:
    pass
else:
    sys.exit("grpc could be imported")

import math
from pathlib import Path

from forest.v1 import model_service_pb2 as mpb, prediction_service_pb2 as ppb
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from inference import grpc_service_pb2 as ipb

from server.admission import Admission
from server.call import Call
from server.health import Health, READINESS
from server.inference_service import InferenceService
from server.model_service import ModelService
from server.models import Models
from server.prediction_service import PredictionService
from server.reflection import Reflection
from server.status import Code, StatusError

call = Call(math.inf, (), lambda: "nobody")
models = Models(Path(sys.argv[1]))
models.load()
prediction, model_service = PredictionService(models), ModelService(models, 10)
health, reflection = Health([READINESS]), Reflection([prediction.name])
inference = InferenceService(models, health, Admission())

described = mpb.ListModelsResponse.FromString(
    model_service.methods()["ListModels"].handle(mpb.ListModelsRequest().SerializeToString(), call)
).models[0]
names = [feature.name for feature in described.features]
predict = prediction.methods()["Predict"].handle

values = [float(index) for index in range(len(names))]
vector = ppb.PredictRequest(model="fraud", request_id="a", vector=ppb.Vector(values=values))
record = ppb.PredictRequest(model="fraud", request_id="a")
for name, value in zip(names, values):
    record.record.features[name].number = value
answers = [predict(request.SerializeToString(), call) for request in (vector, record)]
assert answers[0] == answers[1]
answer = ppb.PredictResponse.FromString(answers[0])
assert (answer.model, answer.digest, answer.request_id) == ("fraud", described.digest, "a")
assert 0 <= answer.classification.probability <= 1

def code(request, call=call):
    try:
        predict(request, call)
    except StatusError as error:
        return error.code

assert code(b"\\xff") is Code.INVALID_ARGUMENT
assert code(ppb.PredictRequest(model="no").SerializeToString()) is Code.NOT_FOUND
assert code(vector.SerializeToString(), Call(0, (), lambda: "")) is Code.DEADLINE_EXCEEDED

tensors = ipb.ModelInferRequest(model_name="fraud")
matrix = tensors.inputs.add(name="matrix", datatype="FP32", shape=[1, len(names)])
matrix.contents.fp32_contents.extend(values)
work = inference.methods()["ModelInfer"].handle(tensors.SerializeToString(), call)
try:
    while True:
        next(work)
except StopIteration as stopped:
    scored = ipb.ModelInferResponse.FromString(stopped.value)
assert scored.outputs[0].contents.fp64_contents[0] == answer.classification.probability

health.set(True, READINESS)
asked = health_pb2.HealthCheckRequest(service=READINESS).SerializeToString()
heard = []
health.methods()["Watch"].subscribe(asked, call, heard.append)
health.set(False, READINESS)
assert heard == [b"\\x08\\x01", b"\\x08\\x02"]

listed = reflection.methods()["ServerReflectionInfo"].handle(
    reflection_pb2.ServerReflectionRequest(list_services="*").SerializeToString(), call
)
assert b"forest.v1.PredictionService" in listed
assert "grpc" not in sys.modules
print("driven")
"""


def test_core_is_driven_where_grpc_cannot_be_imported(fraud_bundle: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(fraud_bundle.parents[1])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout == "driven\n", ran.stderr
