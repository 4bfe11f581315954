"""The table of base models, local checkpoints, and every way in which one can be broken."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from freeswim.models import EMBEDDED, MODELS, WAN_1_3B, find_model
from freeswim.sizes import Size
from tests.wan import save_tiny_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def checkpoint(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(whole, tmp_path / "checkpoint"))


@pytest.mark.parametrize("model", MODELS.values(), ids=str)
def test_table(model) -> None:  # type: ignore[no-untyped-def]
    assert model.native_width % model.token_pixels == 0
    assert model.native_height % model.token_pixels == 0
    assert (model.native_frames - 1) % model.frames_per_latent == 0
    assert "\n" not in model.description
    for _, width, height in model.presets:
        assert width > model.native_width
        assert height > model.native_height


def test_known_by_name_and_by_hub_id() -> None:
    assert find_model("wan2.1-1.3b") is WAN_1_3B
    assert find_model("Wan-AI/Wan2.1-T2V-1.3B-Diffusers") is WAN_1_3B


def test_embedded_is_whole_and_says_what_the_table_says() -> None:
    assert find_model("embedded") is EMBEDDED
    assert EMBEDDED.folder is not None
    local = find_model(str(EMBEDDED.folder))
    assert (local.token_pixels, local.frames_per_latent) == (EMBEDDED.token_pixels, EMBEDDED.frames_per_latent)
    assert local.needs == "cpu"


def test_folder_without_facts_is_like_wan(checkpoint: Path) -> None:
    model = find_model(str(checkpoint))
    assert model.name == str(checkpoint)
    assert model.native == WAN_1_3B.native
    assert model.presets == WAN_1_3B.presets


def test_folder_with_facts(checkpoint: Path) -> None:
    facts = {"native_width": 96, "native_height": 64, "native_frames": 5, "default_steps": 3}
    (checkpoint / "freeswim.json").write_text(json.dumps(facts))
    model = find_model(str(checkpoint))
    assert model.native == Size(96, 64)
    assert model.default_steps == 3
    assert model.presets[0] == ("2x", 192, 128)
    (checkpoint / "freeswim.json").write_text(json.dumps({**facts, "presets": [["large", 320, 208]]}))
    assert find_model(str(checkpoint)).presets == (("large", 320, 208),)


@pytest.mark.parametrize("facts", ['{"name": "x"}', '{"native_width": -5}', '{"native_width": 100}', "{", "[]"])
def test_folder_with_wrong_facts(checkpoint: Path, facts: str) -> None:
    (checkpoint / "freeswim.json").write_text(facts)
    with pytest.raises(ValueError, match=r"freeswim\.json"):
        find_model(str(checkpoint))


def remove_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()


def spoil_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("{")


def other_pipeline(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')


def second_transformer(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "transformer_2": ["diffusers", "X"]}))


def remove_component(folder: Path) -> None:
    shutil.rmtree(folder / "vae")


def remove_weights(folder: Path) -> None:
    for file in (folder / "transformer").glob("*.safetensors"):
        file.unlink()


def cut_weights(folder: Path) -> None:
    for file in (folder / "text_encoder").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-100])


def pointer_weights(folder: Path) -> None:
    for file in (folder / "vae").glob("*.safetensors"):
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "diffusion_pytorch_model-00002-of-00002.safetensors"}}
    (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def image_to_video(folder: Path) -> None:
    config = json.loads((folder / "transformer/config.json").read_text())
    (folder / "transformer/config.json").write_text(json.dumps({**config, "in_channels": 36}))


@pytest.mark.parametrize(
    ("break_it", "word"),
    [
        (remove_index, "model_index.json is missing"),
        (spoil_index, "no valid JSON"),
        (other_pipeline, "StableDiffusionPipeline"),
        (second_transformer, "Wan2.2"),
        (remove_component, "vae/config.json is missing"),
        (remove_weights, "transformer/ has no weights"),
        (cut_weights, "text_encoder/model.safetensors is incomplete"),
        (pointer_weights, "incomplete or damaged"),
        (missing_shard, "00002-of-00002.safetensors is missing"),
        (image_to_video, "36 channels"),
    ],
)
def test_broken_checkpoints_are_found(checkpoint: Path, break_it, word: str) -> None:  # type: ignore[no-untyped-def]
    break_it(checkpoint)
    with pytest.raises(ValueError, match="checkpoint") as error:
        find_model(str(checkpoint))
    assert word in str(error.value)
    assert str(checkpoint) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "someone/some-model"])
def test_missing_folder(name: str) -> None:
    with pytest.raises(ValueError, match="no such folder") as error:
        find_model(name)
    assert name in str(error.value)


@pytest.mark.parametrize("name", ["", "  ", "wan", "Embedded2"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(ValueError, match="choose one of embedded"):
        find_model(name)


def test_checking_imports_no_torch(checkpoint: Path) -> None:
    code = (
        "import sys; from freeswim.models import find_model; find_model(sys.argv[1]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(checkpoint)], check=False).returncode == 0
