"""The simulator as a process: how it starts, says where it is, and ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.sandbox.simulator import SimulatorClient, SimulatorNotStarted, simulator_process
from tests.support.processes import process_ended

COMMAND = [sys.executable, "-m", "runner.sandbox.simulator"]


def wait_for(path: Path) -> str:
    """What a file says once it is there."""
    until = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} was not written"
        time.sleep(0.01)
    return path.read_text()


def test_it_says_where_it_listens_and_stops_at_once_on_sigterm(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--port-file", str(port_file)], stdout=subprocess.PIPE, text=True
    ) as process:
        port = wait_for(port_file).strip()
        client = SimulatorClient(f"http://127.0.0.1:{port}")
        assert client.health()["status"] == "ok"
        client.add_fault("hold", name="stop")
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(client.stripe, "GET", "/v1/balance")
            client.wait_for_held("stop")
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0
            assert time.monotonic() - begun < 2
            assert isinstance(held.exception(5), http.client.HTTPException | OSError)
        assert process.stdout is not None
        assert process.stdout.read() == f"listening on http://127.0.0.1:{port}\n"


def test_it_listens_on_the_loopback_only() -> None:
    with simulator_process() as simulator:
        port = int(simulator.base_url.rpartition(":")[2])
        tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    sockets = [line.split() for line in tables.splitlines()]
    # Columns 1 and 3 are the local address in hexadecimal and the state, 0A for listening.
    listening = [each[1] for each in sockets if each[3] == "0A" and each[1].endswith(f":{port:04X}")]
    assert listening == [f"0100007F:{port:04X}"]


def test_it_dies_with_its_parent_even_a_killed_one(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    command = [*COMMAND, "--port-file", str(port_file)]
    parent_code = f"import subprocess, time; print(subprocess.Popen({command!r}).pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_for(port_file)
        assert not process_ended(child, within_seconds=0)
        os.kill(parent.pid, signal.SIGKILL)
        assert process_ended(child, within_seconds=5)


def test_it_begins_with_the_fault_script_it_is_given(tmp_path: Path) -> None:
    script = tmp_path / "faults.json"
    script.write_text(json.dumps([{"action": "error", "status": 503, "times": 1}]))
    with simulator_process(faults=script) as simulator:
        assert simulator.stripe("GET", "/v1/balance").status == 503
        assert simulator.stripe("GET", "/v1/balance").status == 200


@pytest.mark.parametrize("script", ["not json", '{"action": "error"}', '[{"action": "explode"}]'])
def test_a_bad_fault_script_is_told_without_a_traceback(tmp_path: Path, script: str) -> None:
    path = tmp_path / "faults.json"
    path.write_text(script)
    done = subprocess.run([*COMMAND, "--faults", str(path)], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "--faults" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_an_error_to_whoever_starts_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SimulatorNotStarted), simulator_process(port=port):
            pass
