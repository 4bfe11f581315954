"""Runs before any test module imports torch; the browser and the running app that page tests share."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

# Waiting threads sleep: spinning ones slow the browser and the servers that tests start beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

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
