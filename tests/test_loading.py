"""Loading a model: where, in which precision, and one clear line for everything that can go wrong."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline

from freeswim.cost import GIB
from freeswim.loading import place_pipeline
from freeswim.models import WAN_1_3B, BaseModel, find_model
from freeswim.offload import Offload, choose_offload
from freeswim.pipeline import FreeSwimPipeline
from tests.wan import save_tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return find_model(str(save_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))


def test_precisions(model: BaseModel) -> None:
    """The VAE stays float32 and so do the layers that Wan keeps in float32, whatever the rest is."""
    pipe = FreeSwimPipeline.from_pretrained(model, device="cpu").pipe
    assert {pipe.transformer.dtype, pipe.text_encoder.dtype, pipe.vae.dtype} == {torch.float32}
    pipe = FreeSwimPipeline.from_pretrained(model, device="cpu", torch_dtype=torch.bfloat16).pipe
    assert pipe.transformer.dtype == pipe.text_encoder.dtype == torch.bfloat16
    assert pipe.vae.dtype == torch.float32
    assert pipe.transformer.blocks[0].scale_shift_table.dtype == torch.float32
    assert pipe.transformer.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu"}, ["device='gpu'", "'cuda'"]),
        ({"device": "cuda:77"}, ["device='cuda:77'", "CUDA devices"]),
        ({"device": "cpu", "offload": "model"}, ["offload='model'", "'none'"]),
        ({"device": "cpu", "offload": "disk"}, ["offload='disk'", "group"]),
    ],
)
def test_refused(model: BaseModel, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match="=") as error:
        FreeSwimPipeline.from_pretrained(model, **options)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_cuda_models_are_refused_before_any_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: Any, **kwargs: Any) -> None:
        pytest.fail("tried to download")

    monkeypatch.setattr(WanPipeline, "from_pretrained", download)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"wan2\.1-1\.3b.*needs a CUDA device.*'embedded'"):
        FreeSwimPipeline.from_pretrained("wan2.1-1.3b")


def test_a_model_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: Any, **kwargs: Any) -> None:
        raise OSError("We couldn't connect to the hub\nand a long story follows")

    monkeypatch.setattr(WanPipeline, "from_pretrained", download)
    with pytest.raises(ValueError, match="could not be loaded from the Hugging Face hub") as error:
        FreeSwimPipeline.from_pretrained(WAN_1_3B, device="cpu")
    assert "couldn't connect" in str(error.value)
    assert "\n" not in str(error.value)


def test_running_out_of_memory_is_no_broken_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(WanPipeline, "from_pretrained", load)
    with pytest.raises(torch.OutOfMemoryError):
        FreeSwimPipeline.from_pretrained(WAN_1_3B, device="cpu")


def test_weights_that_do_not_fit_the_configuration(tmp_path: Path) -> None:
    """What the quick check can't see is found when loading, and is one line too."""
    folder = save_tiny_checkpoint(tmp_path)
    config = folder / "transformer/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"ffn_dim": 48}))
    with pytest.raises(ValueError, match="could not be loaded from its folder") as error:
        FreeSwimPipeline.from_pretrained(str(folder), device="cpu")
    assert "\n" not in str(error.value)


def test_a_folder_is_checked_again_when_it_is_loaded(model: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model_index\.json is missing"):
        FreeSwimPipeline.from_pretrained(dataclasses.replace(model, source=str(tmp_path)), device="cpu")


class Placed:
    """Stands for a pipeline, and notes where it was put: no GPU is needed for that."""

    def __init__(self) -> None:
        part = torch.nn.Linear(1000, 1000, bias=False)
        self.components = {"text_encoder": part, "tokenizer": None, "vae": None}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self.calls.append(name)


@pytest.mark.parametrize(
    ("offload", "free", "call"),
    [
        ("auto", 13e6, "to"),
        ("auto", 11e6, "enable_model_cpu_offload"),
        ("none", 11e6, "to"),
        ("model", 13e6, "enable_model_cpu_offload"),
        ("group", 13e6, "enable_group_offload"),
    ],
)
def test_models_take_turns_where_all_of_them_leave_too_little(
    offload: Offload, free: float, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four megabytes of weights on GPUs with a little more and a little less than three times as much free."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free), 10**9))
    pipe: Any = Placed()
    place_pipeline(pipe, torch.device("cuda"), offload)
    assert pipe.calls == [call]


def test_a_cpu_keeps_everything() -> None:
    pipe: Any = Placed()
    place_pipeline(pipe, torch.device("cpu"))
    assert pipe.calls == ["to"]


def test_what_wan_does_on_the_usual_cards() -> None:
    weights = round(13.75 * GIB)
    assert [choose_offload(weights, n * GIB) for n in (12, 24, 32, 48, 80)] == ["model"] * 3 + ["none"] * 2
