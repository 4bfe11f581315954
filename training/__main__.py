"""Make the embedded model, the way it was made: a row of short runs that go on from each other's checkpoints.

python -m training                                          all of it, about 40 minutes on one H100
python -m training --from resume                            the later stages again
python -m training --output /tmp/trial --scale 0.0005       a test of the machinery: four minutes on a CPU
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from freeswim.embedded.subjects import WEIGHTS

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "freeswim" / "embedded"


def stages(output: Path, scale: float) -> dict[str, list[str]]:
    """The command line of each stage, in order. `scale` is applied to seconds and to numbers of clips."""

    def clips(number: int, batch: int, least: int = 4, flag: str = "--clips") -> list[str]:
        number = max(least, round(number * scale))
        # a trial of a few clips needs no full batch, and on a CPU could not wait for one
        return [flag, str(number), "--batch", str(min(batch, max(2, number // 16)))]

    def seconds(number: float) -> list[str]:
        return ["--seconds", f"{number * scale:g}"]

    def few(flag: str, number: int) -> list[str]:
        return [flag, str(min(number, max(1, round(number * scale))))]

    home = output == EMBEDDED
    detector = WEIGHTS if home else output / WEIGHTS.name
    pictures = ROOT / "outputs" / "training" if home else output
    folder = ["--output", str(output)]
    transformer = ["training.train_transformer", *folder]
    return {
        "vae": [
            "training.train_vae", *folder, *seconds(400), *clips(3000, batch=16), *few("--measure", 16),
            "--sheet", str(pictures / "vae.png"),
        ],
        "transformer": [*transformer, *seconds(370), *clips(24000, batch=128, least=16), "--lr", "3e-3"],
        "resume": [
            *transformer, "--resume", *seconds(190), *clips(10000, batch=128, least=16), "--lr", "1.5e-3",
            "--seed", "2",
        ],
        "balance": [
            *transformer, "--resume", *seconds(300), *clips(16000, batch=128, least=16), "--lr", "2e-3", "--seed", "7",
            "--kinds", "sun", "moon", "balloon", "balloon", "boat", "boat",
        ],
        "complete": [
            *transformer, "--resume", *seconds(446), *clips(20000, batch=128, least=16), "--lr", "2e-3",
            "--seed", "11",
        ],
        "detector": [
            "training.train_detector", "--output", str(detector), *seconds(25),
            *clips(6400, batch=48, least=32, flag="--pictures"), *few("--check", 40),
        ],
        "sheet": [
            "training.sheet", "--model", str(output), "--detector", str(detector),
            "--output", str(pictures / "unseen.png"), *few("--prompts", 64),
        ],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=EMBEDDED, help="the pipeline's folder (default: the package's)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on seconds and numbers of clips")
    names = list(stages(EMBEDDED, 1.0))
    parser.add_argument("--from", dest="first", choices=names, default=names[0], help="skip the stages before this one")
    args = parser.parse_args()
    if args.scale <= 0:
        parser.error(f"--scale {args.scale} is not positive")

    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    took: dict[str, float] = {}
    for name, command in list(stages(output, args.scale).items())[names.index(args.first) :]:
        print(f"== {name}: python -m {' '.join(command)}", flush=True)
        start = time.perf_counter()
        # a process each: the next stage finds the accelerator's memory empty
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False)
        if done.returncode:
            sys.exit(f"stage {name} failed; when it is mended, go on with --from {name}")
        took[name] = round(time.perf_counter() - start, 1)
    print(json.dumps({"output": str(output), "seconds": took}))


if __name__ == "__main__":
    main()
