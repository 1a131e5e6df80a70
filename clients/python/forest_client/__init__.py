"""Call Forest Serving: a channel with the service config it should be called with, and its errors in full."""

from forest_client.channel import open_channel
from forest_client.failure import Failure, Violation, failure_of

__all__ = ["Failure", "Violation", "failure_of", "open_channel"]
