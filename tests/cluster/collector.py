"""A collector of traces in the namespace `monitoring`: it writes a line of JSON for each span that comes.

It is run in a pod of the server's image, by its text: nothing of this folder is there.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class _Collector(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc] # as generated
    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - as generated
        for resource in request.resource_spans:
            instance = _texts(resource.resource.attributes)["service.instance.id"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                line = {
                    "instance": instance,
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "attributes": _texts(span.attributes),
                }
                print(json.dumps(line), flush=True)
        return trace_service_pb2.ExportTraceServiceResponse()


def _texts(attributes: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in attributes}


# One thread: lines of two would run into each other.
if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Collector(), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port("0.0.0.0:4317")
    server.start()
    server.wait_for_termination()
