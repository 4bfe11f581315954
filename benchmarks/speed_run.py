"""A whole run of the pipeline with models of their real sizes and random weights: time and GPU memory of each stage.

    python -m benchmarks.speed_run --size 1920x1080 --steps 10 --card 24 --compare

`--card` leaves so many GiB of this GPU free and takes the rest away, as on a smaller card. What `freeswim.cost` had
expected of the run stands beside what it took. The last line printed is JSON. No file is written, and no weights are
read: what a run has besides is in neither.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler, WanPipeline
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from benchmarks.speed_model import GIB, TINY, WAN_1_3B, Setting, random_transformer
from benchmarks.speed_vae import random_vae
from freeswim import models
from freeswim.loading import place_pipeline
from freeswim.models import BaseModel
from freeswim.offload import Offload
from freeswim.page.limits import device_meter
from freeswim.pipeline import FreeSwimPipeline
from freeswim.plan import make_plan
from freeswim.progress import Progress
from freeswim.request import Request

# Wan2.1's text encoder is that of UMT5-XXL.
UMT5_XXL: dict[str, Any] = {
    "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
}  # fmt: skip
TINY_UMT5: dict[str, Any] = {"vocab_size": 8, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1920x1080", metavar="WxH")
    parser.add_argument("--steps", type=int, default=10, help="of each stage at strength 1 (default 10)")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--interval", type=int, default=5, help="steps from one guide pass to the next (default 5)")
    parser.add_argument("--compare", action="store_true", help="the naive video as well")
    parser.add_argument("--card", type=float, metavar="GIB", help="memory to leave of this GPU (default: all of it)")
    parser.add_argument("--offload", choices=("auto", "none", "model", "group"), default="auto")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, for a test on the CPU")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args(arguments)
    setting = Setting(config=TINY if options.tiny else WAN_1_3B)
    model = replace(models.WAN_1_3B, native_width=64, native_height=48) if options.tiny else models.WAN_1_3B
    width, height = (int(side) for side in options.size.split("x"))
    request = Request(
        prompt="a boat", negative_prompt="a sea", width=width, height=height, num_frames=options.frames,
        steps=options.steps, refresh_interval=options.interval, compare=options.compare, model=model.name,
    )  # fmt: skip
    data = measure(setting, request, model, card=options.card, offload=options.offload, tiny=options.tiny)
    if options.output is not None:
        options.output.write_text(json.dumps(data, indent=1) + "\n")
    print(json.dumps(data))
    return data


def measure(
    setting: Setting, request: Request, model: BaseModel, *, card: float | None, offload: Offload, tiny: bool
) -> dict[str, Any]:
    """Seconds and GiB at the peak of each stage, and what was expected."""
    device = setting.device
    cuda = device.type == "cuda"
    meter = device_meter()
    if card is not None and cuda:
        meter.gpu_memory = int(card * GIB)
    estimate = meter.estimate(make_plan(request, model))
    pipe = random_pipeline(setting, tiny=tiny)
    taken = _take_all_but(card, device)
    place_pipeline(pipe, device, offload)
    stages = StagePeaks(device, taken)
    result = FreeSwimPipeline(pipe, model)(request, on_progress=stages.note)
    stages.finish()
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "request": {name: value for name, value in request.to_dict().items() if value is not None},
        "card_GiB": card,
        "offload": "model" if hasattr(pipe.transformer, "_hf_hook") else "none" if offload == "auto" else offload,
        "seconds": result.seconds,
        "expected_seconds": estimate.stages,
        "peak_GiB": stages.peaks,
        "expected_GiB": estimate.memory / GIB,
        "outside_torch_GiB": stages.outside,
    }


def random_pipeline(setting: Setting, *, tiny: bool = False) -> WanPipeline:
    """Wan2.1-1.3B's components in the precisions in which they are loaded, on the CPU."""
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "boat": 4, "sea": 5}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")),
        pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512,
    )  # fmt: skip
    widths = {} if not tiny else {"d_model": setting.config["text_dim"]}
    with torch.device(setting.device):
        default = torch.get_default_dtype()
        torch.set_default_dtype(setting.dtype)  # in float32 it would be 21 GiB for a moment
        try:
            encoder = UMT5EncoderModel(UMT5Config(**((TINY_UMT5 if tiny else UMT5_XXL) | widths)))
        finally:
            torch.set_default_dtype(default)
    pipe = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder.eval().requires_grad_(False).to("cpu"),
        transformer=random_transformer(setting, setting.config["num_layers"]).to("cpu"),
        vae=random_vae(setting, tiny=tiny).to("cpu"),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


class StagePeaks:
    """The peak of GPU memory in each stage, told by the pipeline's progress."""

    def __init__(self, device: torch.device, taken: torch.Tensor | None) -> None:
        self.peaks: dict[str, float] = {}
        self.outside = 0.0  # what the process has on the GPU besides torch's memory, most of it CUDA's context
        self._device, self._taken = device, taken
        self._stage: str | None = None

    def note(self, progress: Progress) -> None:
        if progress.stage != self._stage:
            self.finish()
            self._stage = progress.stage

    def finish(self) -> None:
        """Closes the stage under way."""
        if self._device.type != "cuda":
            return
        if self._stage is not None:
            taken = 0 if self._taken is None else self._taken.nbytes
            self.peaks[self._stage] = (torch.cuda.max_memory_allocated(self._device) - taken) / GIB
            free, total = torch.cuda.mem_get_info(self._device)
            self.outside = (total - free - torch.cuda.memory_reserved(self._device)) / GIB
        torch.cuda.reset_peak_memory_stats(self._device)


def _take_all_but(card: float | None, device: torch.device) -> torch.Tensor | None:
    """Memory of the GPU held so that `card` GiB are left, CUDA's context among them."""
    if card is None or device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info(device)[1]
    return torch.empty(total - int(card * GIB), dtype=torch.uint8, device=device)


if __name__ == "__main__":
    main()
