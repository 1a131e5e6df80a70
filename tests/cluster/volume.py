"""Claims of volumes, which Git does not make: whoever runs the cluster does."""

from tests.cluster.kubernetes import Kubernetes, Object


def claim(kubernetes: Kubernetes, name: str, mode: str = "ReadWriteOnce") -> Object:
    """Return a claim on a volume without class of a mode, or on the default class of storage if there is one.

    Parameters
    ----------
    mode : str
        What a volume without class must offer. Classes of clusters of one node know the first alone, and all
        pods are on that node.
    """
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    if not kubernetes.run("get", "storageclasses", "--output=name").strip():
        spec |= {"storageClassName": "", "accessModes": [mode]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": spec,
    }
