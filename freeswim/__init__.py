"""FreeSwim (arXiv 2511.14712): training-free ultra-high-resolution video from Wan models, on stock diffusers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from freeswim.config import FreeSwimConfig

if TYPE_CHECKING:
    from freeswim.hook import apply_freeswim, remove_freeswim
    from freeswim.pipeline import FreeSwimPipeline
    from freeswim.request import Request

__version__ = "0.1.0"

__all__ = ["FreeSwimConfig", "FreeSwimPipeline", "Request", "__version__", "apply_freeswim", "remove_freeswim"]

# Imported on first use: torch and diffusers take seconds, and a mistyped argument should be answered at once.
_LAZY = {
    "apply_freeswim": "freeswim.hook",
    "remove_freeswim": "freeswim.hook",
    "FreeSwimPipeline": "freeswim.pipeline",
    "Request": "freeswim.request",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
