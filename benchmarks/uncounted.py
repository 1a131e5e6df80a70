"""The server with nothing counted, noted or recorded: `python -m benchmarks.uncounted`, with its own flags.

A server that is told to have no port of metrics counts all the same, so what counting costs cannot be seen by
its settings.
"""

import sys
from typing import Any

from server.__main__ import main
from server.calls import MethodCalls
from server.decisions import Decisions


def _nothing(*_: Any, **__: Any) -> None:
    """Count nothing."""


for _method in ("started", "received", "answered", "ended", "ended_together", "flush"):
    setattr(MethodCalls, _method, _nothing)
for _method in ("row", "flush"):
    setattr(Decisions, _method, _nothing)

if __name__ == "__main__":
    sys.exit(main())
