"""Whether something answers."""

import ssl
import urllib.error
import urllib.request

from tests.cluster.node.place import KEYS


def answers(url: str) -> bool:
    """Return whether a URL of the node answers 200; its certificate, if any, is the node's authority's."""
    context = ssl.create_default_context(cafile=KEYS / "ca.crt") if url.startswith("https:") else None
    try:
        # No proxy: the machine may have one, and it would be asked for the node's address.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
