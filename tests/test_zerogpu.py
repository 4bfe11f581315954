"""The page's seam to ZeroGPU against the installed `spaces` package, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("spaces")


def test_runs_are_lent_a_gpu_of_their_size_for_their_time() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tests.zerogpu_space"],
        cwd=Path(__file__).resolve().parent.parent,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    report = json.loads(process.stdout.strip().splitlines()[-1])
    assert report["available"]
    assert report["status"] == "done"
    assert report["files"] == [True, True, True]
    assert [loan["size"] for loan in report["asked"]] == ["large", "xlarge"]
    seconds = [loan["seconds"] for loan in report["asked"]]
    assert seconds[0] == pytest.approx(10 + 1.3 * report["expected"], abs=1)
    assert seconds[1] > 5 * seconds[0] / 2, "a run of many steps asks for longer"
    assert report["released"][0] == "token1"
    assert set(report["states"]) == {"running"}
    assert "a GPU is lent for 0:01 here" in report["refused"]
