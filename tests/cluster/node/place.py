"""Where everything of the node is: folders and addresses."""

import os
from pathlib import Path

# All that a run writes; gone after `down`.
ROOT = Path("/var/lib/forest-cluster")
LOGS = ROOT / "log"
KEYS = ROOT / "keys"
MANIFESTS = Path(__file__).parent / "manifests"
KUBECONFIG = ROOT / "admin.kubeconfig"
VOLUME = ROOT / "volume"
AUDIT = ROOT / "audit"
REPOSITORY = ROOT / "repository.git"
ENVIRONMENT = ROOT / "environment"

# What is slow to make, by the digest of what it is made from.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forest-serving" / "cluster"

NAME = "forest"
NETWORK = Path("/run/netns") / NAME

# Of the range for benchmarks between networks (RFC 2544): no machine has it, and nothing leads there.
NODE = "198.18.255.1"
HOST = "198.18.255.2"
PODS = "198.19.0.0/24"
SERVICES = "198.19.255.0/24"
API_SERVICE = "198.19.255.1"
DNS = "198.19.255.10"

API = f"https://{NODE}:6443"
ETCD = "http://127.0.0.1:2379"
REGISTRY = f"{NODE}:5000"
ARGOCD = f"{NODE}:8080"
