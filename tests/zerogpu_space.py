"""A ZeroGPU Space as far as it can be had without the platform: the real `spaces` package and its worker process.

Run in a process of its own (tests/test_zerogpu.py). Stood in for are the platform's scheduler, which lends the GPU, and
the GPU: the worker computes on the CPU, and `spaces` does not patch torch (a build for the CPU lacks what it patches).
Prints JSON.
"""

# ruff: noqa: E402  # the order of the imports is what this is about
import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["SPACES_ZERO_GPU"] = "true"
os.environ["SPACES_ZERO_DEVICE_API_URL"] = "http://127.0.0.1:9"  # nobody listens; nothing may ask there

sys.modules["torch"] = None  # type: ignore[assignment]  # as if it were not installed: nothing to patch
import spaces
from spaces.zero import client
from spaces.zero.api import ScheduleResponse

del sys.modules["torch"]

from freeswim.cost import Meter, Speed
from freeswim.page import handlers, runs, zerogpu
from freeswim.page.limits import Gate, Limits
from freeswim.page.runner import Runner
from freeswim.page.source import plan_of

asked: list[dict[str, Any]] = []
released: list[str] = []


def schedule(task_id: int, request: Any = None, duration: Any = None, gpu_size: str | None = None) -> ScheduleResponse:
    asked.append({"seconds": duration.total_seconds(), "size": gpu_size})
    return ScheduleResponse(idle=False, nvidiaIndex=0, nvidiaUUID="GPU-0", allowToken=f"token{len(asked)}")


def main() -> None:
    """One run on each size of GPU, one that is refused, one that is left early."""
    assert spaces.config.Config.zero_gpu
    client.schedule = schedule
    client.release = lambda token, **_: released.append(token)
    client.allow = lambda token: None
    client.get_duration_seconds = lambda duration, size: duration.total_seconds()

    meter = Meter(speed=Speed(matrix=1e12, convolution=1e11), accelerated=True)
    run = zerogpu.on_gpu(Runner(Path(tempfile.mkdtemp())).run, meter)
    form = {"prompt": "a red sun over a calm sea", "resolution": "288x160", "frames": 5, "steps": 2, "seed": 1}
    *_, last = runs.run_api(run, {**form, "compare": True}, Gate(meter))

    loans = zerogpu.LOANS
    zerogpu.LOANS = (zerogpu.Loan("large", 1, 200), loans[1])  # nothing fits on the smaller one
    updates = run(*handlers.task_of({**form, "steps": 500}))
    states = [next(updates).status.state for _ in range(3)]
    updates.close()  # type: ignore[attr-defined]
    zerogpu.LOANS = loans

    refused = Gate(meter, Limits(seconds=1.0), zerogpu.lent_seconds).refusal(handlers.make_request(form))
    report = {
        "available": zerogpu.available(),
        "asked": asked,
        "released": released,
        "status": last[3]["status"]["state"],
        "files": [Path(file["path"]).is_file() for file in last[:3]],
        "states": states,
        "refused": refused,
        "expected": meter.estimate(plan_of(handlers.make_request({**form, "compare": True}))).seconds,
    }
    print(json.dumps(report))
    sys.stdout.flush()
    for worker in multiprocessing.active_children():  # which wait for more
        worker.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
