"""`python -m server.probe`: whether the server here is healthy, for whoever runs a command to ask that.

Kubernetes has probes of its own for gRPC. Compose has none, and the image has no shell and no other client.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2

from server import config
from server.health import READINESS, Health

# Compose gives a check as long, and so does Kubernetes.
_TIMEOUT = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Ask the health port of the settings in the environment for a service; return 0 if it is SERVING."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) > 1:
        print(f"forest-serve probe: one health service or none, not {' '.join(given)}", file=sys.stderr)
        return 2
    service = given[0] if given else READINESS
    port = config.read([]).health_port
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        check = channel.unary_unary(
            f"/{Health.name}/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            status = check(health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT).status
        except grpc.RpcError as error:
            print(f"{service} on port {port}: {error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    said = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    print(f"{service} on port {port}: {said}")
    return 0 if said == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main())
