"""A channel to Forest Serving, set up as its servers expect.

The service config is a file of its own, `service_config.json`, because clients in other languages want the
same one. docs/client.md says why each line of it is there.
"""

import json
from importlib.resources import files

import grpc

SERVICE_CONFIG = files("forest_client").joinpath("service_config.json").read_text()

LONGEST_CALL = 30.0
"""Seconds after which the service config ends any call, also one without a deadline of its own."""

_OPTIONS = (
    # A node that vanishes, or a firewall that forgets a connection, says so to nobody: a ping finds out. No
    # more than two go out on a silent connection, which every gRPC server puts up with.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A server that was away is found again within seconds; by default it may take two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # New pods are found within seconds of an old one's leaving; by default it may take half a minute. A
    # cluster's DNS keeps answers for as long, and a server's connections end half as often.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # A proxy that the environment names for the web must not see transactions.
    ("grpc.enable_http_proxy", 0),
)


def open_channel(target: str, *, retries: bool = True) -> grpc.Channel:
    """Open a channel.

    Parameters
    ----------
    target
        ``host:port``. For a headless Service of Kubernetes ``dns:///forest-fraud.models:50051``: every
        pod behind the name gets its share of the calls.
    retries
        Whether calls that met a vanished or full server are made again. Without, each failure is the
        caller's to see; the rest of the service config holds. A call that had not left this client when its
        connection went is sent on another either way: gRPC does that by itself.

    Returns
    -------
    grpc.Channel
        For the generated stubs. It connects with the first call, balances over every address of the
        target, leaves out servers whose health is not SERVING, and retries what is safe to retry. Close
        it, or use it in a ``with`` statement.
    """
    service_config = SERVICE_CONFIG if retries else _without_retries(SERVICE_CONFIG)
    return grpc.insecure_channel(target, options=(("grpc.service_config", service_config), *_OPTIONS))


def _without_retries(service_config: str) -> str:
    config = json.loads(service_config)
    del config["retryThrottling"]
    for method_config in config["methodConfig"]:
        del method_config["retryPolicy"]
    return json.dumps(config)
