"""A rollback in staging is a revert, and brings back the very same pods' template."""

import pytest

from gitops.layout import STAGING
from tests.cluster.rollback import WAYS, Way, there_and_back
from tests.cluster.system import System


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_very_same_replica_set_and_settings_serve_again(system: System, way: Way) -> None:
    there_and_back(system, STAGING, way)
