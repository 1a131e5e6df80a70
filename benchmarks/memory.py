"""How much memory a server has: its process, and the children of that."""

from pathlib import Path

# Of their own, now; with the files that are mapped; and with these, at most until now.
ANONYMOUS = "RssAnon"
RESIDENT = "VmRSS"
PEAK = "VmHWM"


def mebibytes(process: int, field: str) -> float:
    """Return a field of ``/proc/PID/status``, summed over a process and its children, in MiB."""
    folder = Path("/proc") / str(process)
    sizes = [
        int(line.split()[1])
        for line in (folder / "status").read_text().splitlines()
        if line.startswith(f"{field}:")
    ]
    children = {
        int(child)
        for task in (folder / "task").iterdir()
        for child in (task / "children").read_text().split()
    }
    return sum(sizes) / 1024 + sum(mebibytes(child, field) for child in children)
