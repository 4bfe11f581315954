"""FreeSwim and the naive windows from Python: python examples/python_api.py "a white boat sailing on a calm sea"

Every video is written the moment it exists.
"""

import sys
from pathlib import Path

from freeswim import FreeSwimPipeline, Request
from freeswim.video import Video, write_video

OUTPUT = Path("outputs")


def save(name: str, video: Video) -> None:
    """Writes outputs/base.mp4, outputs/freeswim.mp4 and outputs/naive.mp4 as they come."""
    print(write_video(OUTPUT / f"{name}.mp4", video))


def main() -> None:
    """One prompt at twice the trained size, beside the naive windows."""
    prompt = " ".join(sys.argv[1:]) or "a red sun rising over blue mountains and a calm sea"
    pipeline = FreeSwimPipeline.from_pretrained("embedded")  # on a GPU: "wan2.1-1.3b"
    request = Request(prompt=prompt, width=512, height=288, seed=1, compare=True)
    result = pipeline(request, on_video=save, on_progress=lambda p: print(f"{p.stage} {p.step}/{p.total}"))
    print({stage: round(seconds, 1) for stage, seconds in result.seconds.items()})


if __name__ == "__main__":
    main()
