"""The base models we know, and Wan text-to-video checkpoints in a local folder. No torch here.

What a checkpoint's own configuration states (token size, frames per latent) is read from it; a table entry for a hub
model states it because it must be known before anything is downloaded.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from freeswim.checkpoint import check_checkpoint, checkpoint_facts, read_json
from freeswim.sizes import Size

# The negative prompt that Wan's authors recommend, in the English wording of diffusers' documentation.
WAN_NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
    "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn "
    "hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, "
    "three legs, many people in the background, walking backwards"
)


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A text-to-video model and what FreeSwim needs to know of it before it is loaded."""

    name: str
    source: str  # a hub id, or a folder in diffusers' layout
    description: str  # one line, for lists
    native_width: int  # pixels; what the model was trained on
    native_height: int
    native_frames: int
    fps: int
    token_pixels: int = 16  # side of a token: the VAE's spatial factor times the transformer's patch
    frames_per_latent: int = 4  # the VAE's temporal factor
    default_steps: int
    guidance_scale: float = 5.0
    strength: float = 0.7  # share of the steps that stage 2 runs
    native_shift: float
    refine_shift: float = 9.0
    max_sequence_length: int
    default_negative_prompt: str = ""
    presets: tuple[tuple[str, int, int], ...]  # (label, width, height) for a list to choose from
    needs: Literal["cpu", "cuda"]  # the least that gives a video in reasonable time
    memory: str  # for people; estimates unless it says measured
    freeswim: Mapping[str, Any] = field(default_factory=dict)  # FreeSwimConfig fields that differ from its defaults

    @property
    def native(self) -> Size:
        """The trained size in pixels."""
        return Size(self.native_width, self.native_height)

    @property
    def folder(self) -> Path | None:
        """Where the checkpoint lies, or None when it comes from the hub."""
        path = Path(self.source)
        return path if path.is_absolute() else None

    def check(self) -> None:
        """Raises ValueError when the checkpoint is a folder and something in it is missing or broken."""
        if self.folder is not None:
            check_checkpoint(self.folder, name=self.name)


EMBEDDED = BaseModel(
    name="embedded",
    source=str(Path(__file__).resolve().parent / "embedded"),
    description="A small model that comes with the package: landscapes with one subject, on any computer",
    native_width=256,
    native_height=144,
    native_frames=17,
    fps=16,
    default_steps=20,
    guidance_scale=3.0,
    native_shift=3.0,
    max_sequence_length=32,
    presets=(("2x", 512, 288), ("3x", 768, 432)),
    needs="cpu",
    memory="under 4 GB of main memory",
)

WAN_1_3B = BaseModel(
    name="wan2.1-1.3b",
    source="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    description="Wan2.1 1.3B: anything a prompt can say, trained at 832x480",
    native_width=832,
    native_height=480,
    native_frames=81,
    fps=16,
    default_steps=50,
    native_shift=3.0,
    max_sequence_length=512,
    default_negative_prompt=WAN_NEGATIVE_PROMPT,
    presets=(("720p", 1280, 720), ("1080p", 1920, 1080), ("1440p", 2560, 1440), ("4K", 3840, 2160)),
    needs="cuda",
    # Whole runs at both sizes were made in 24 GiB of an H100 (docs/performance.md); with --offload none it is computed.
    memory="about 12.5 GB of GPU memory at 1080p, 22 GB at 4K; 20 and 33 GB with --offload none",
)

WAN_14B = BaseModel(
    name="wan2.1-14b",
    source="Wan-AI/Wan2.1-T2V-14B-Diffusers",
    description="Wan2.1 14B: the large one, trained at 1280x720",
    native_width=1280,
    native_height=720,
    native_frames=81,
    fps=16,
    default_steps=50,
    native_shift=5.0,
    max_sequence_length=512,
    default_negative_prompt=WAN_NEGATIVE_PROMPT,
    presets=(("1080p", 1920, 1080), ("1440p", 2560, 1440), ("4K", 3840, 2160)),
    needs="cuda",
    memory="about 46 GB of GPU memory at 1080p, 57 GB with --offload none (estimates)",
)

MODELS: Mapping[str, BaseModel] = {model.name: model for model in (EMBEDDED, WAN_1_3B, WAN_14B)}

# Above this size of its transformer's weights a local model isn't run on a CPU unless one asks for it.
_CPU_WEIGHT_LIMIT = 1 << 30


def find_model(name: str) -> BaseModel:
    """The base model called `name`: one of MODELS, its hub id, or a folder with a Wan text-to-video checkpoint.

    A folder may hold a `freeswim.json` with BaseModel fields (native_width, native_frames, presets, ...); what neither
    it nor the checkpoint says is taken from wan2.1-1.3b. Raises ValueError for an unknown name, for a folder that is
    missing or broken, and for a broken checkpoint of a known model.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(
            f"model={name!r} is no model: choose one of {', '.join(MODELS)}, or give a checkpoint's folder"
        )
    for model in MODELS.values():
        if name in (model.name, model.source):
            model.check()
            return model
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _local_model(name, folder.resolve())
    if "/" in name or "\\" in name or folder.exists():
        raise ValueError(
            f"model={name!r}: there is no such folder; give the folder of a Wan text-to-video checkpoint in diffusers' "
            f"layout, or one of {', '.join(MODELS)}"
        )
    raise ValueError(f"model={name!r} is unknown: choose one of {', '.join(MODELS)}, or give a checkpoint's folder")


def _local_model(name: str, folder: Path) -> BaseModel:
    check_checkpoint(folder, name=name)
    facts = checkpoint_facts(folder)
    values: dict[str, Any] = {
        "name": name,
        "source": str(folder),
        "description": f"The checkpoint in {folder}",
        "token_pixels": facts.token_pixels,
        "frames_per_latent": facts.frames_per_latent,
        "needs": "cuda" if facts.transformer_bytes > _CPU_WEIGHT_LIMIT else "cpu",
        "memory": "not known",
    }
    if (folder / "freeswim.json").is_file():
        values |= _own_facts(folder / "freeswim.json")
    model = dataclasses.replace(WAN_1_3B, **values)
    if "presets" not in values and model.native != WAN_1_3B.native:
        times = tuple((f"{n}x", n * model.native_width, n * model.native_height) for n in (2, 3, 4))
        model = dataclasses.replace(model, presets=times)
    if model.native_width % model.token_pixels or model.native_height % model.token_pixels:
        raise ValueError(
            f"model={name!r}: its native size {model.native} is no multiple of its token size of {model.token_pixels} "
            f"pixels; correct native_width and native_height in {folder / 'freeswim.json'}"
        )
    return model


def _own_facts(path: Path) -> dict[str, Any]:
    """The BaseModel fields in a folder's freeswim.json; ValueError for anything else in it."""
    allowed = {f.name for f in dataclasses.fields(BaseModel)} - {"name", "source", "token_pixels", "frames_per_latent"}
    facts = read_json(path)
    unknown = sorted(set(facts) - allowed)
    if unknown:
        raise ValueError(f"{path}: unknown {unknown}; it may hold {sorted(allowed)}")
    for key in ("native_width", "native_height", "native_frames", "fps", "default_steps", "max_sequence_length"):
        if key in facts and not (type(facts[key]) is int and facts[key] > 0):
            raise ValueError(f"{path}: {key}={facts[key]!r} must be a whole number above 0")
    if "presets" in facts:
        facts["presets"] = tuple((str(label), int(width), int(height)) for label, width, height in facts["presets"])
    return facts
