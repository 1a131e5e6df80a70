"""Load raises the replicas, and Argo CD lets them be."""

from gitops.layout import STAGING
from tests.cluster.scaling import Scaling
from tests.cluster.system import System, application


def test_load_raises_the_replicas(system: System, scaling: Scaling) -> None:
    with scaling.load():
        scaling.wait_for(4, seconds=120)
        # A sync while there are more than Git ever said: the count is not Git's.
        system.argocd.application(application(STAGING), refresh="hard")
        system.argocd.sync(application(STAGING))
        system.argocd.wait(application(STAGING))
        assert scaling.replicas() == 4
