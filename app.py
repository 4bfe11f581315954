"""The FreeSwim page: `python app.py` opens it on GRADIO_SERVER_PORT (7860). Its parts are in freeswim/page/."""

import os
from contextlib import suppress
from pathlib import Path

# Before gradio is imported: the page asks nothing of the outside world.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Before torch is: waiting threads sleep, since spinning ones slow a busy computer down several times.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# On ZeroGPU this has to come before torch; elsewhere the package is absent.
with suppress(ImportError):
    import spaces  # noqa: F401

from gradio.utils import get_upload_folder

from freeswim.page.form import build_page
from freeswim.page.runner import Runner
from freeswim.page.theme import CSS_PATH, theme
from freeswim.page.zerogpu import on_gpu


def main() -> None:
    """Builds the page and serves it until it is interrupted."""
    # Inside gradio's own folder (GRADIO_TEMP_DIR), so that its delete_cache clears old videos away.
    page = build_page(Runner(Path(get_upload_folder())), gpu=on_gpu)
    page.launch(
        theme=theme(),
        css_paths=CSS_PATH,
        footer_links=["api", "settings"],
        ssr_mode=False,
        show_error=True,
        max_file_size="200mb",
    )


if __name__ == "__main__":
    main()
