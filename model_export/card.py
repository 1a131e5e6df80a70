"""The model card."""

from typing import Any


def render(*args: Any) -> bytes:
    return b"<html></html>"
