"""The API: /generate, /refine and /estimate, with every setting as a keyword argument."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from freeswim.page import handlers, runs, text
from freeswim.page.limits import Gate
from freeswim.page.parts import SCRIPTS
from freeswim.page.runner import Run


def add_endpoints(run: Run, gate: Gate, *, places: int = 1) -> None:
    """Adds the endpoints to the page that is being built; `places` of their runs are in the line at a time."""
    queue: dict[str, Any] = {"concurrency_id": SCRIPTS, "concurrency_limit": places}
    gr.api(generate_endpoint(run, gate), api_name="generate", api_description=text.API_DESCRIPTION, **queue)
    gr.api(refine_endpoint(run, gate), api_name="refine", api_description=text.REFINE_DESCRIPTION, **queue)
    gr.api(estimate_endpoint(gate), api_name="estimate", api_description=text.ESTIMATE_DESCRIPTION)


def settings(
    prompt: str,
    negative_prompt: str | None = None,
    model: str = "embedded",
    resolution: str | None = None,
    seed: int = 1,
    steps: int | None = None,
    strength: float | None = None,
    guidance_scale: float | None = None,
    flow_shift: float | None = None,
    frames: int | None = None,
    quality: str | None = None,
    guide: str | None = None,
    override: str | None = None,
    context_until: float | None = None,
    anchor_above: float | None = None,
    refresh_interval: int | None = None,
    refresh_until: float | None = None,
    guide_unconditional: bool | None = None,
    window: str | None = None,
    query_tile: str | None = None,
    shift_tiles: bool | None = None,
    window_mode: str | None = None,
    guide_grid: str | None = None,
    logit_scale: float | None = None,
    naive_mode: str = "clipped",
    compare: bool = True,
) -> dict[str, Any]:
    """What every endpoint takes, by name; None is the model's own default."""
    return locals()


_SETTINGS = inspect.signature(settings)
# gradio reads the outputs off the return annotation, which for a generator would be one Iterator. A client gets the
# files' paths.
_VIDEOS = tuple[str, str, str, dict]


def generate_endpoint(run: Run, gate: Gate | None = None) -> Callable[..., Iterator[Any]]:
    """The function behind /generate."""

    def generate(*args: Any, **values: Any) -> Iterator[Any]:
        yield from runs.run_api(run, settings(*args, **values), gate)

    return _described(generate, list(_SETTINGS.parameters.values()), _VIDEOS)


def refine_endpoint(run: Run, gate: Gate | None = None) -> Callable[..., Iterator[Any]]:
    """The function behind /refine: a video, then what /generate takes."""

    def refine(video: Any, *args: Any, **values: Any) -> Iterator[Any]:
        try:
            path = video.get("path") if isinstance(video, dict) else getattr(video, "path", None)
            own = handlers.uploaded(path, get_upload_folder())
        except (ValueError, TypeError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        yield from runs.run_api(run, {**settings(*args, **values), "mode": "own", "own": own}, gate)

    video = inspect.Parameter("video", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.FileData)
    return _described(refine, [video, *_SETTINGS.parameters.values()], _VIDEOS)


def estimate_endpoint(gate: Gate) -> Callable[..., dict]:
    """The function behind /estimate: takes what /generate takes, and the length of a video that is to be refined."""

    def estimate(*args: Any, **values: Any) -> dict:
        own_frames = values.pop("own_frames", None)
        given = settings(*args[: len(_SETTINGS.parameters)], **values)
        if len(args) > len(_SETTINGS.parameters):
            own_frames = args[-1]
        return handlers.estimate_api(gate, given, own_frames=own_frames)

    own = inspect.Parameter("own_frames", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=int | None)
    return _described(estimate, [*_SETTINGS.parameters.values(), own], dict)


def _described(function: Callable[..., Any], parameters: list[inspect.Parameter], returns: Any) -> Callable[..., Any]:
    """`function` with the signature that gradio is to describe."""
    described: Any = function
    described.__signature__ = inspect.Signature(parameters, return_annotation=returns)
    described.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": returns}
    return described
