"""Train the network that counts subjects (`freeswim.embedded.subjects`) on drawn scenes, and report its own error.

python -m training.train_detector --seconds 25
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from freeswim.embedded.subjects import KINDS, WEIGHTS, SubjectNet, find
from training.clips import CLOSE_SHARE
from training.render import Renderer, to_uint8
from training.scenes import SUBJECT_COLOURS, View, sample_scene, sample_view, unseen_scenes

PEAK_LR = 2e-3


@torch.no_grad()
def draw_bank(renderer: Renderer, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 pictures (N, 3, 144, 256) and class maps (N, 72, 128), half of them whole scenes, half close views."""
    pictures, classes = [], []
    kinds = list(SUBJECT_COLOURS)
    for i in range(0, count, 32):
        kind = kinds[(i // 32) % len(kinds)]
        scenes = [sample_scene(rng, "wide", kind) for _ in range(32)]
        views = [sample_view(s, rng) if rng.random() > CLOSE_SHARE else View() for s in scenes]
        video, cover = renderer.with_subject(scenes, views, (144, 256), 3)
        frame = int(rng.integers(3))
        pictures.append(to_uint8(video[:, frame]).permute(0, 3, 1, 2))
        small = F.avg_pool2d(cover[:, frame][:, None], 2)[:, 0]
        classes.append((small > 0.5).to(torch.uint8) * (1 + KINDS.index(kind)))
    return torch.cat(pictures), torch.cat(classes)


def augment(pictures: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures side by side (so that several subjects in one are nothing new), light, blur and noise."""
    order = torch.randperm(len(pictures), device=pictures.device)
    x = pictures.float() / 255
    if torch.rand(()) < 0.6:
        cut = 2 * int(torch.randint(16, 112, ()))
        x = torch.cat((x[..., :cut], x[order][..., cut:]), -1)
        classes = torch.cat((classes[..., : cut // 2], classes[order][..., cut // 2 :]), -1)
    if torch.rand(()) < 0.3:
        cut = 2 * int(torch.randint(16, 56, ()))
        x = torch.cat((x[..., :cut, :], x[order][..., cut:, :]), -2)
        classes = torch.cat((classes[..., : cut // 2, :], classes[order][..., cut // 2 :, :]), -2)
    if torch.rand(()) < 0.5:
        x, classes = x.flip(-1), classes.flip(-1)
    if torch.rand(()) < 0.5:
        factor = float(torch.empty(()).uniform_(0.4, 0.9))
        x = F.interpolate(F.interpolate(x, scale_factor=factor, mode="bilinear"), x.shape[-2:], mode="bilinear")
    light = torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(0.85, 1.15)
    return (x * light + 0.03 * torch.rand(()).item() * torch.randn_like(x)).clamp(0, 1), classes.long()


def errors(net: SubjectNet, renderer: Renderer, count: int, scale: int, seed: int = 77) -> dict[str, float]:
    """On true pictures with exactly one subject, drawn at `scale`: how often count, kind and colour are misread."""
    scenes = unseen_scenes(np.random.default_rng(seed), count)
    wrong = {"count": 0, "kind": 0, "colour": 0}
    for scene in scenes:
        video = renderer([scene], [View(zoom=scale)], (144 * scale, 256 * scale), 3)
        subjects = find(net, to_uint8(video[0, 1:2]).cpu().numpy())[0]
        wrong["count"] += len(subjects) != 1
        if subjects:
            wrong["kind"] += subjects[0].kind != scene.subject
            wrong["colour"] += subjects[0].colour != scene.colour
    return {what: round(number / count, 4) for what, number in wrong.items()}


def train(net: SubjectNet, pictures: torch.Tensor, classes: torch.Tensor, *, seconds: float, batch: int = 48) -> None:
    """Train `net` in place for `seconds` on uint8 pictures (N, 3, H, W) and their class maps (N, H / 2, W / 2)."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_LR, weight_decay=0.01)
    weights = torch.tensor([1.0] + [2.0] * len(KINDS), device=pictures.device)
    start, step = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        picks = torch.randint(len(pictures), (batch,), device=pictures.device)
        x, y = augment(pictures[picks], classes[picks])
        loss = F.cross_entropy(net(x), y, weight=weights)
        for group in optimiser.param_groups:
            group["lr"] = PEAK_LR * min(1.0, 1.02 - elapsed / seconds)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        if step % 200 == 1:
            print(f"{elapsed:6.1f} s  step {step:5d}  loss {loss.item():.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    parser.add_argument("--seconds", type=float, default=25)
    parser.add_argument("--pictures", type=int, default=6400)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument(
        "--check", type=int, default=40, help="unseen scenes to measure its error on, at each of three sizes"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    renderer, net = Renderer(device), SubjectNet().to(device)
    pictures, classes = draw_bank(renderer, args.pictures, np.random.default_rng(5))
    train(net, pictures, classes, seconds=args.seconds, batch=args.batch)
    save_file({k: v.contiguous().cpu() for k, v in net.state_dict().items()}, args.output)
    net.eval()
    print(json.dumps({f"{scale}x": errors(net, renderer, args.check, scale) for scale in (1, 2, 3)}))


if __name__ == "__main__":
    main()
