"""Runs before any test module imports torch; the browser and the running app that page tests share."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, sync_playwright

from tests.visit import Visit

if TYPE_CHECKING:  # these import torch, which must not happen before the setting below
    from freeswim.page.runner import Runner
    from freeswim.pipeline import FreeSwimPipeline

# Waiting threads sleep: spinning ones slow the browser and the servers that tests start beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Without a GPU Triton's kernels run in its interpreter. Triton reads this when a kernel is defined.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parent.parent

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = os.environ.get("FREESWIM_CHROMIUM") or shutil.which("chromium")
    if not path:
        if os.environ.get("FREESWIM_REQUIRE_BROWSER"):
            pytest.fail("there is no Chromium: install it, or set FREESWIM_CHROMIUM to its path")
        pytest.skip("there is no Chromium: install it, or set FREESWIM_CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `python app.py`, started as a visitor would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("app")
    env = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "videos")}
    with (folder / "log").open("w") as log:
        app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 120
        while "Running on" not in (folder / "log").read_text():
            if app.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the app did not start:\n{(folder / 'log').read_text()}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        app.terminate()
        app.wait(20)


@pytest.fixture(scope="module")
def client(url: str) -> Client:
    return Client(url, verbose=False)


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    visit = Visit(browser, url)
    yield visit
    visit.context.close()


@pytest.fixture(scope="module")
def tiny() -> "FreeSwimPipeline":
    """A random pipeline that takes the embedded model's place."""
    from freeswim.pipeline import FreeSwimPipeline
    from tests.tiny_page import TINY
    from tests.wan import tiny_pipeline

    return FreeSwimPipeline(tiny_pipeline(), TINY)


@pytest.fixture
def runner(tmp_path: Path, tiny: "FreeSwimPipeline") -> "Runner":
    from freeswim.page.runner import Runner

    return Runner(tmp_path, load=lambda model: tiny)
