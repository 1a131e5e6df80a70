"""``python -m tests.cluster.node``: makes the node, ends it, or ends and starts one part of it."""

import argparse
import sys
import time

from tests.cluster.node import node, runtime
from tests.cluster.node.error import NodeError
from tests.cluster.node.packages import absent
from tests.cluster.node.place import ENVIRONMENT


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser("tests.cluster.node", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    commands.add_parser("check", help="say what is absent here")
    commands.add_parser("build", help="build what is slow to make, and keep it")
    commands.add_parser("up", help="make the node, and return when it is ready")
    commands.add_parser("down", help="end and remove all of it")
    for name, what in (("kill", "end a part at once"), ("start", "start a part that has ended")):
        commands.add_parser(name, help=what).add_argument("part", choices=node.PARTS)
    crash = commands.add_parser("crash", help="end the process of a container at once, as a crash would")
    crash.add_argument("container", help="its id, as the pod's status has it")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        if options.command == "check":
            reason = absent()
            print(reason or "nothing is absent")
            return 1 if reason else 0
        if options.command == "crash":
            runtime.crash(options.container)
        elif options.command in ("kill", "start"):
            {"kill": node.end, "start": node.begin}[options.command](options.part)
        else:
            {"build": node.build, "up": node.up, "down": node.down}[options.command]()
    except NodeError as error:
        print(f"node: {error}", file=sys.stderr)
        return 1
    if options.command == "up":
        print(f"the node is up after {time.monotonic() - started:.0f} s: . {ENVIRONMENT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
