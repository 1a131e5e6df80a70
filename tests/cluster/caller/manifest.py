"""The caller's pod, and the namespace in which its environment admits it."""

import json
from collections.abc import Sequence
from pathlib import Path
from string import Template

_POD = Path(__file__).with_name("pod.yaml")


def pod(environment: str, image: str, *, name: str = "caller", options: Sequence[str] = ()) -> str:
    """Return the YAML of both, for ``kubectl apply -f -``.

    Parameters
    ----------
    environment
        Whose servers it calls, as ``staging``. The namespace is ``forest-clients-<environment>``.
    image
        The caller's image, as ``registry/caller@sha256:...``.
    name
        The pod's name: one with retries can run beside one without.
    options
        The caller's, as ``["--rate=20", "--retries"]``.
    """
    words = ", ".join(map(json.dumps, options))
    return Template(_POD.read_text()).substitute(
        ENVIRONMENT=environment, IMAGE=image, NAME=name, OPTIONS=words
    )
