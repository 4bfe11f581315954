"""Draft, Balanced and Best: how much time a run may take, as settings of a model."""

from typing import Any, Literal, get_args

from freeswim.models import BaseModel
from freeswim.request import Request

Quality = Literal["draft", "balanced", "best"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)

FIELDS = ("steps", "frames", "refresh_interval", "override", "anchor_above")  # of the form, that a quality sets
LABELS: dict[Quality, str] = {"draft": "Draft", "balanced": "Balanced", "best": "Best"}


def quality_values(model: BaseModel, quality: str) -> dict[str, Any]:
    """The form's steps, frames and what else makes a quality, by field. ValueError for an unknown one.

    Balanced is the model's own default. Draft takes a quarter of the steps (8 at least), a third of the frames and
    refreshes the guide half as often, so that whoever is lent a GPU for minutes gets a comparison. Best takes half as
    many steps again, refreshes the guide at every step, and hands over its keys and values too, which keeps one
    picture most surely (docs/quality.md: "anchored above 0.7, output and context") and costs as much attention again.
    """
    if quality not in QUALITIES:
        raise ValueError(f"{quality=} is unknown; choose one of {', '.join(QUALITIES)}")
    usual = Request(prompt="-", model=model.name).resolved(model)
    k, interval = model.frames_per_latent, usual.refresh_interval or 1
    steps, frames = usual.steps, usual.num_frames
    override, anchor = usual.override, usual.anchor_above
    if quality == "draft":
        latents = (frames - 1) // k
        steps, frames, interval = min(steps, max(8, round(0.24 * steps))), max(2, latents // 3) * k + 1, 2 * interval
    elif quality == "best":
        steps, interval, override, anchor = round(1.5 * steps), 1, "both", 0.7
    return dict(zip(FIELDS, (steps, frames, interval, override, anchor), strict=True))


def quality_info(model: BaseModel) -> str:
    """What each of them sets, in one line."""
    parts = []
    for quality in QUALITIES:
        values = quality_values(model, quality)
        parts.append(f"{LABELS[quality]}: {values['steps']} steps, {values['frames']} frames")
    return "; ".join(parts) + "."
