"""A visitor of the running page, in headless Chromium."""

from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped,import-not-found,unused-ignore]
from playwright.sync_api import Browser, Locator, Page, expect

SMALL = {"resolution": "288x160", "frames": 5, "steps": 2}


class Watched:
    """A browser of its own; notes the console's errors and the machines that its pages ask for something."""

    page: Page

    def __init__(self, browser: Browser, **context: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | context))
        self.errors: list[str] = []
        self.hosts: set[str | None] = set()

    def open(self, url: str) -> Page:
        page = self.context.new_page()
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))
        page.goto(url)
        return page

    def serious(self, within: str | None = None) -> list[Any]:
        """What axe finds serious on the page, or in the part that a selector names, in short."""
        found = Axe().run(self.page, within).response["violations"]
        return [
            (rule["id"], [node["html"][:200] for node in rule["nodes"]])
            for rule in found
            if rule["impact"] in ("serious", "critical")
        ]


class Visit(Watched):
    """The page, opened."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        super().__init__(browser, **context)
        self.page = self.open(url)
        expect(self.generate).to_be_enabled(timeout=20_000)

    @property
    def generate(self) -> Locator:
        return self.page.get_by_role("button", name="Generate")

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_role("textbox", name="Prompt", exact=True)

    @property
    def status(self) -> Locator:
        return self.page.locator("#status")

    def set_small(self, *, steps: int) -> None:
        """The form's resolution, frames and steps, as a person would fill them in."""
        self.page.get_by_label("Resolution").fill(SMALL["resolution"])  # type: ignore[arg-type]
        self.page.get_by_label("Resolution").press("Enter")
        self.page.get_by_role("button", name="Advanced").click()
        for label, value in (("Frames", SMALL["frames"]), ("Steps", steps)):
            field = self.page.get_by_label(f"number input for {label}")
            field.fill(str(value))
            field.press("Tab")
