"""The FreeSwim page: `python app.py` opens it on GRADIO_SERVER_PORT (7860). Its parts are in freeswim/page/."""

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

# Before gradio is imported: the page asks nothing of the outside world.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Before torch is: waiting threads sleep, since spinning ones slow a busy computer down several times.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# On ZeroGPU this has to come before torch; elsewhere the package may be absent.
with suppress(ImportError):
    import spaces  # noqa: F401

from gradio.utils import get_upload_folder

from freeswim.page import handlers, zerogpu
from freeswim.page.form import RUN_CSS, build_page
from freeswim.page.limits import Gate, device_limits, device_meter
from freeswim.page.runner import Runner
from freeswim.page.theme import CSS_PATH, theme


def main() -> None:
    """Builds the page and serves it until it is interrupted."""
    # Inside gradio's own folder (GRADIO_TEMP_DIR), whose files it may serve.
    runner = Runner(Path(get_upload_folder()), load=zerogpu.load if zerogpu.available() else None)
    if zerogpu.available():
        gate = Gate(zerogpu.meter(), zerogpu.limits(), zerogpu.lent_seconds)
        runner.preload(handlers.best_model())  # placed on the GPU in advance, so that no visitor pays for loading it
    else:
        gate = Gate(device_meter(), device_limits())
    page = build_page(runner, gate=gate, gpu=zerogpu.on_gpu, places=zerogpu.PLACES if zerogpu.available() else 1)
    page.launch(
        theme=theme(),
        css_paths=[CSS_PATH, RUN_CSS],
        footer_links=["api", "settings"],
        ssr_mode=False,
        show_error=True,
        max_file_size="200mb",
        mcp_server=find_spec("mcp") is not None,  # with `pip install gradio[mcp]`, the endpoints are tools as well
    )


if __name__ == "__main__":
    main()
