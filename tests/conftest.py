"""Runs before any test module imports torch; the browser that page tests share."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

# Waiting threads sleep: spinning ones slow the browser and the servers that tests start beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

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
