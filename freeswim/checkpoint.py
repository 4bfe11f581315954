"""Checks a Wan text-to-video checkpoint in a folder, in milliseconds and without torch.

Loading a checkpoint takes seconds to minutes and fails in many voices; here everything that can be told from names,
JSON and file sizes is told first, in one line that says which model, what is wrong and what to do.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Component folder -> its configuration file. Those in _WEIGHTED hold weights as well.
_COMPONENTS = {
    "scheduler": "scheduler_config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "transformer": "config.json",
    "vae": "config.json",
}
_WEIGHTED = ("text_encoder", "transformer", "vae")


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """What a checkpoint's own configuration says."""

    token_pixels: int
    frames_per_latent: int
    transformer_bytes: int


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ValueError with one line when it can't be read or is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON ({error}); get the checkpoint again") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a JSON object, not a {type(data).__name__}")
    return data


def check_checkpoint(folder: Path, *, name: str) -> None:
    """Raises ValueError, in one line that names the model, unless `folder` holds a whole Wan text-to-video checkpoint.

    Looks at model_index.json, the five component folders, their configuration, and the length of every weight file
    against its own header (which finds interrupted downloads and Git LFS pointers).
    """

    def broken(what: str) -> ValueError:
        return ValueError(
            f"model={name!r}: {what}; get the checkpoint again, or choose another model (folder: {folder})"
        )

    index_path = folder / "model_index.json"
    if not index_path.is_file():
        raise broken("model_index.json is missing, so this is no checkpoint in diffusers' layout")
    index = read_json(index_path)
    if index.get("_class_name") != "WanPipeline":
        raise broken(
            f"model_index.json says {index.get('_class_name')!r}, but only WanPipeline (text to video) works here"
        )
    if (index.get("transformer_2") or [None])[0] is not None or index.get("expand_timesteps"):
        raise broken("this is a Wan2.2 checkpoint, which isn't supported yet")
    for component, config in _COMPONENTS.items():
        if not (folder / component / config).is_file():
            raise broken(f"{component}/{config} is missing")
        read_json(folder / component / config)
    for component in _WEIGHTED:
        problem = _weights_problem(folder / component)
        if problem:
            raise broken(f"{component}/{problem}")
    transformer, vae = read_json(folder / "transformer/config.json"), read_json(folder / "vae/config.json")
    in_channels, z_dim = transformer.get("in_channels", 16), vae.get("z_dim", 16)
    if in_channels != z_dim:
        raise broken(f"the transformer takes {in_channels} channels but the VAE makes {z_dim} (not text to video?)")


def checkpoint_facts(folder: Path) -> CheckpointFacts:
    """Token size, frames per latent and the bytes of the transformer, from a folder that check_checkpoint passed."""
    vae, transformer = read_json(folder / "vae/config.json"), read_json(folder / "transformer/config.json")
    patch = transformer.get("patch_size", [1, 2, 2])
    return CheckpointFacts(
        token_pixels=int(vae.get("scale_factor_spatial", 8)) * int(patch[-1]),
        frames_per_latent=int(vae.get("scale_factor_temporal", 4)),
        transformer_bytes=sum(file.stat().st_size for file in (folder / "transformer").glob("*.safetensors")),
    )


def _weights_problem(folder: Path) -> str | None:
    """What is wrong with a component's weights, or None."""
    wanted: set[str] = set()
    for index in folder.glob("*.index.json"):
        wanted |= set(read_json(index).get("weight_map", {}).values())
    files = wanted or {path.name for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern)}
    if not files:
        return " has no weights in it (*.safetensors)"
    for file in sorted(files):
        if not (folder / file).is_file():
            return f"{file} is missing"
        if file.endswith(".safetensors") and not _safetensors_whole(folder / file):
            return f"{file} is incomplete or damaged ({(folder / file).stat().st_size} bytes)"
    return None


def _safetensors_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its own header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
    return size == 8 + length + end
