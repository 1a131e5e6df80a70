"""From a probability to a label and a level of risk. Decided here, never by the graph's own label output."""

from bisect import bisect_right

from model_bundle.manifest import Manifest


class Decision:
    """Decides by a manifest's threshold and risk levels."""

    def __init__(self, manifest: Manifest):
        self.threshold = manifest.threshold
        self._negative, self._positive = manifest.labels
        self._minimums = [level.minimum for level in manifest.risk_levels]
        self._levels = [level.name for level in manifest.risk_levels]

    def label(self, probability: float) -> str:
        """Return the positive label from the threshold on, else the negative one."""
        return self._positive if probability >= self.threshold else self._negative

    def risk_level(self, probability: float) -> str:
        """Return the level that a probability belongs to: on a boundary, the upper one."""
        return self._levels[bisect_right(self._minimums, probability) - 1]
