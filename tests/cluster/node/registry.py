"""A registry of images, for pushes from this machine and pulls by the node."""

from tests.cluster.node.binaries import binary
from tests.cluster.node.part import Part
from tests.cluster.node.place import REGISTRY, ROOT
from tests.cluster.node.probe import answers

_CONFIG = f"""\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {ROOT}/registry}}
  delete: {{enabled: true}}
http: {{addr: "{REGISTRY}"}}
"""


def part() -> Part:
    """Return the registry."""
    (ROOT / "registry.yaml").write_text(_CONFIG)
    return Part(
        "registry",
        (binary("registry"), "serve", ROOT / "registry.yaml"),
        lambda: answers(f"http://{REGISTRY}/v2/"),
        {"OTEL_TRACES_EXPORTER": "none"},
    )
