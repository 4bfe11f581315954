"""A visitor of the running page, in headless Chromium."""

from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator, Page, expect

SMALL = {"resolution": "288x160", "frames": 5, "steps": 2}


class Visit:
    """An open page, with the console's errors and the addresses it asked for."""

    def __init__(self, browser: Browser, url: str, *, width: int = 1280) -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900})
        self.errors: list[str] = []
        self.hosts: set[str | None] = set()
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))
        self.page.goto(url)
        expect(self.generate).to_be_enabled()

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
