"""The seam to Hugging Face's ZeroGPU, where a GPU is lent to one call at a time. Elsewhere it changes nothing."""

from collections.abc import Callable, Iterator

from freeswim.page.runner import Update
from freeswim.request import Request

Run = Callable[[Request], Iterator[Update]]

# Seconds asked for, for one run. A visitor without an account may have about 200.
_DURATION = 120


def on_gpu(run: Run) -> Run:
    """`run` as a call that ZeroGPU lends a GPU to; `run` itself where the `spaces` package is not installed."""
    try:
        import spaces
    except ImportError:
        return run
    decorated: Run = spaces.GPU(duration=_DURATION)(run)
    return decorated
