"""The gRPC inference server."""

VERSION = "0.4.0"
"""The server's own version: that of pyproject.toml, which the image does not hold."""
