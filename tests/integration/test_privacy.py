"""Nothing phones home: no connection but those asked for, nothing written outside the own folders."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub

_ROOT = Path(__file__).parents[2]
# The command itself, with fewer trees and rows.
_EXPORT = """
import sys
from dataclasses import replace
from model_export.recipes import fraud
fraud.RECIPE = replace(
    fraud.RECIPE, forest={**fraud.RECIPE.forest, "n_estimators": 16}, generated_rows=3_000
)
from model_export.__main__ import main
sys.exit(main(["fraud", "--out", *sys.argv[1:]]))
"""
_NETWORK = "connect,sendto,sendmsg,sendmmsg"
_WRITING = (
    "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,mknodat"
)


def _may_trace() -> str:
    """Return why processes cannot be traced here; nothing if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o/dev/null", "true"], capture_output=True, text=True, check=False)
    return f"strace may not trace here: {tried.stderr.strip()}" if tried.returncode else ""


_NO_TRACE = _may_trace()


class Room:
    """A world of empty folders for a process: all places where something might be left."""

    def __init__(self, folder: Path):
        self.folder = folder
        places = {
            "HOME": "home",
            "TMPDIR": "tmp",
            "XDG_CACHE_HOME": "cache",
            "XDG_CONFIG_HOME": "config",
            "XDG_DATA_HOME": "data",
            "XDG_STATE_HOME": "state",
            "XDG_RUNTIME_DIR": "run",
        }
        for name in (*places.values(), "work"):
            (folder / name).mkdir(parents=True)
        kept = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ}
        self.environment |= {name: str(folder / place) for name, place in places.items()}
        # Python's own cache of compiled modules is no concern here. Telemetry is asked for.
        self.environment |= {"PYTHONDONTWRITEBYTECODE": "1", "ORT_DISABLE_TELEMETRY": "0"}
        self.work = folder / "work"

    def left(self) -> list[str]:
        """Return every file in it, and every folder that was made."""
        found = sorted(str(path.relative_to(self.folder)) for path in self.folder.glob("*/**/*"))
        return [path for path in found if not path.startswith("models/")]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "room")


def _port(lines: Any, pattern: str) -> int:
    for line in lines:
        if found := re.search(pattern, line):
            return int(found[1])
    raise AssertionError(f"no {pattern}")


def _sockets(pid: int) -> list[tuple[str, str, str, str]]:
    """Return protocol, local and remote address, and state of each socket that a process holds."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if found := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link)):
            inodes.add(found[1])
    held = []
    for protocol in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in Path(f"/proc/{pid}/net/{protocol}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[9] in inodes:
                held.append((protocol, columns[1], columns[2], columns[3]))
    return held


def _number(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="this system does not tell of sockets")
def test_serving_leaves_no_file_and_holds_no_socket_but_those_asked_for(
    room: Room, fraud_bundle: Path, golden: list[Any], connect: Callable[..., Any], metrics_port: int
) -> None:
    command = [sys.executable, "-m", "server", "--models", str(fraud_bundle.parents[1])]
    command += ["--metrics-port", str(metrics_port)]
    with subprocess.Popen(
        [*command, "--port=0", "--health-port=0"],
        env=room.environment,
        cwd=room.work,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            health_port = _port(process.stderr, r"health on port (\d+)")
            port = _port(process.stderr, r" SERVING on port (\d+)")
            with connect(f"localhost:{port}") as channel:
                request = PredictRequest(model="fraud", vector=Vector(values=golden[0].values))
                PredictionServiceStub(channel).Predict(request, timeout=10)
                held = _sockets(process.pid)
            process.terminate()
            process.stderr.read()
            assert process.wait(30) == 0
        finally:
            process.kill()
    listen, established = "0A", "01"
    assert {protocol for protocol, *_ in held} <= {"tcp", "tcp6"}
    assert {_number(local) for _, local, _, state in held if state == listen} == {
        *(port, health_port, metrics_port)
    }
    others = [(_number(local), state) for _, local, _, state in held if state != listen]
    assert others == [(port, established)]
    assert room.left() == []


def test_exporting_leaves_nothing_but_the_bundle(room: Room) -> None:
    models = room.folder / "models"
    ran = subprocess.run(
        [sys.executable, "-c", _EXPORT, str(models)],
        env=room.environment,
        cwd=room.work,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert room.left() == []
    manifest = json.loads((models / "fraud/1.0.0/manifest.json").read_bytes())
    written = {str(path.relative_to(models)) for path in models.rglob("*") if path.is_file()}
    assert written == {f"fraud/1.0.0/{name}" for name in ("manifest.json", *manifest["files"])}


def _traced(trace: Path, command: list[str]) -> list[str]:
    # -D: the tracer is a process of its own, so that signals reach what is traced.
    return [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-s",
        "256",
        "-o",
        str(trace),
        "-e",
        f"trace={_NETWORK},{_WRITING}",
        *command,
    ]


def _read(trace: Path) -> list[str]:
    """Return a trace's calls when the tracer has written all of it."""
    size = -1
    while size != (size := trace.stat().st_size):
        time.sleep(0.3)
    return [line for line in trace.read_text(errors="replace").splitlines() if "resumed>" not in line]


def _strangers(calls: list[str]) -> list[str]:
    """Return what was sent or connected to anything but this machine."""
    local = ("AF_UNIX", "AF_NETLINK", "AF_UNSPEC", 'inet_addr("127.', '"::1"', '"::ffff:127.')
    found = []
    for call in calls:
        name = call.partition("(")[0].split()[-1]
        addressed = name == "connect" or "sa_family=" in call
        if name in _NETWORK.split(",") and addressed and not any(word in call for word in local):
            found.append(call)
    return found


def _written(calls: list[str], own: tuple[Path, ...]) -> list[str]:
    """Return what was written outside some folders."""
    found = []
    for call in calls:
        name = call.partition("(")[0].split()[-1]
        if name not in _WRITING.split(",") or re.search(r"= -1 E", call):
            continue
        if name.startswith("open") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", call):
            continue
        paths = re.findall(r'"([^"]*)"', call)
        # joblib tries, when it is imported, whether there are semaphores: made and removed at once.
        allowed = ("/dev/null", "/dev/tty", "/dev/shm/sem.", *map(str, own))
        if not all(path.startswith(allowed) for path in paths):
            found.append(call)
    return found


_TELLING = """
import socket, sys
# Nothing is sent: a datagram's socket only notes whom it would send to, an address that nobody has.
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect_ex("/nowhere")
open(sys.argv[1] + "/device-id", "w").close()
"""


@pytest.mark.skipif(bool(_NO_TRACE), reason=_NO_TRACE or "traced")
def test_the_trace_would_show_a_stranger_and_a_file(room: Room, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    home = room.folder / "home"
    command = _traced(trace, [sys.executable, "-c", _TELLING, str(home)])
    subprocess.run(command, env=room.environment, check=True, timeout=60)
    calls = _read(trace)
    (stranger,) = _strangers(calls)
    assert "192.0.2.1" in stranger
    (file,) = _written(calls, ())
    assert "device-id" in file
    assert _written(calls, (home,)) == []
    assert room.left() == ["home/device-id"]


@pytest.mark.skipif(bool(_NO_TRACE), reason=_NO_TRACE or "traced")
def test_serving_connects_to_nobody_and_writes_nothing_as_the_kernel_sees_it(
    room: Room, fraud_bundle: Path, golden: list[Any], connect: Callable[..., Any], metrics_port: int
) -> None:
    trace = room.folder.parent / "trace"
    command = [sys.executable, "-m", "server", "--models", str(fraud_bundle.parents[1])]
    command += ["--metrics-port", str(metrics_port)]
    with subprocess.Popen(
        _traced(trace, [*command, "--port=0", "--health-port=0"]),
        env=room.environment,
        cwd=room.work,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            port = _port(process.stderr, r" SERVING on port (\d+)")
            with connect(f"localhost:{port}") as channel:
                for row in golden[:20]:
                    request = PredictRequest(model="fraud", vector=Vector(values=row.values))
                    PredictionServiceStub(channel).Predict(request, timeout=30)
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{metrics_port}/metrics", timeout=20
                ) as response:
                    assert b"grpc_server_handled_total" in response.read()
                # Who would report home does so some time after the start.
                time.sleep(2)
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    calls = _read(trace)
    assert len(calls) > 100
    assert any("model.onnx" in call for call in calls)
    assert _strangers(calls) == []
    assert _written(calls, ()) == []


@pytest.mark.skipif(bool(_NO_TRACE), reason=_NO_TRACE or "traced")
def test_exporting_connects_to_nobody_and_writes_the_bundle_only_as_the_kernel_sees_it(
    room: Room, tmp_path: Path
) -> None:
    trace, models = tmp_path / "trace", room.folder / "models"
    ran = subprocess.run(
        _traced(trace, [sys.executable, "-c", _EXPORT, str(models)]),
        env=room.environment,
        cwd=room.work,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    calls = _read(trace)
    assert any("libonnxruntime" in call for call in calls)
    assert any("model.onnx" in call and "O_CREAT" in call for call in calls)
    assert _strangers(calls) == []
    assert _written(calls, (models, room.folder / "tmp")) == []


@pytest.mark.skipif(bool(_NO_TRACE), reason=_NO_TRACE or "traced")
def test_tracking_connects_to_nobody_and_writes_the_registry_besides_as_the_kernel_sees_it(
    room: Room, tmp_path: Path
) -> None:
    trace, models = tmp_path / "trace", room.folder / "models"
    # MLflow is silent by itself where it takes its surroundings for CI: these are none.
    assert not {"CI", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS"} & set(room.environment)
    ran = subprocess.run(
        _traced(trace, [sys.executable, "-c", _EXPORT, str(models), "--track"]),
        env={**room.environment, "MLFLOW_DISABLE_TELEMETRY": "false"},
        cwd=room.work,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    calls = _read(trace)
    assert any("mlruns/artifacts/fraud/" in call and "O_CREAT" in call for call in calls)
    assert _strangers(calls) == []
    assert _written(calls, (models, room.folder / "tmp", room.work / "mlruns")) == []
    assert all(path.startswith("work/mlruns") for path in room.left())


_LOADING = """
import ctypes

seen = []
real = ctypes.PyDLL

class Noting(real):
    def __init__(self, name, *arguments, **named):
        if "onnxruntime" in str(name):
            getenv = ctypes.CDLL(None).getenv
            getenv.restype = ctypes.c_char_p
            seen.append(getenv(b"ORT_DISABLE_TELEMETRY"))
        super().__init__(name, *arguments, **named)

ctypes.PyDLL = Noting
from model_bundle import runtime
runtime.load()
assert seen == [b"1"], seen
"""


@pytest.mark.parametrize("value", [None, "", "0", "false"])
def test_telemetry_is_off_when_the_library_is_loaded_whatever_the_caller_has_set(value: str | None) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    if value is not None:
        environment["ORT_DISABLE_TELEMETRY"] = value
    ran = subprocess.run(
        [sys.executable, "-c", _LOADING],
        env=environment,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
