"""The node's network: a namespace whose one way out is a cable to this machine, which forwards nothing."""

from tests.cluster.node.command import run
from tests.cluster.node.place import HOST, NAME, NETWORK, NODE, SERVICES

_CABLE = "forest-node"


def make() -> None:
    """Make the namespace. The machine reaches the node at its address, and nothing beyond it."""
    run("ip", "netns", "add", NAME)
    run("ip", "link", "add", _CABLE, "type", "veth", "peer", "name", "eth0", "netns", NAME)
    run("ip", "address", "add", f"{HOST}/30", "dev", _CABLE)
    run("ip", "link", "set", _CABLE, "up")
    for command in (
        ("link", "set", "lo", "up"),
        ("address", "add", f"{NODE}/30", "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        # Services have no address anywhere: kube-proxy turns them into pods' before a packet would leave.
        ("route", "add", SERVICES, "dev", "eth0"),
    ):
        run("ip", "-n", NAME, *command)
    run("nsenter", f"--net={NETWORK}", "--", "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")


def remove() -> None:
    """Remove the namespace; the cable goes with it."""
    if NETWORK.exists():
        run("ip", "netns", "delete", NAME)
