"""FreeSwim (arXiv 2511.14712): training-free ultra-high-resolution video from Wan models, on stock diffusers."""

from typing import TYPE_CHECKING, Any

from freeswim.config import FreeSwimConfig
from freeswim.hook import apply_freeswim, remove_freeswim

if TYPE_CHECKING:
    from freeswim.pipeline import FreeSwimPipeline
    from freeswim.request import Request

__version__ = "0.1.0"

__all__ = ["FreeSwimConfig", "FreeSwimPipeline", "Request", "__version__", "apply_freeswim", "remove_freeswim"]


def __getattr__(name: str) -> Any:
    """Import what stands above the core on first use: transformers and video libraries load slowly."""
    if name == "FreeSwimPipeline":
        from freeswim.pipeline import FreeSwimPipeline

        return FreeSwimPipeline
    if name == "Request":
        from freeswim.request import Request

        return Request
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
