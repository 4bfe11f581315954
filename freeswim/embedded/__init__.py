"""The small trained model that ships in the package: a Wan text-to-video pipeline that any computer can run.

It knows one world, landscapes with one subject, and the words that describe it; `training/` says how it was made.
"""

import json
import re
from functools import cache
from pathlib import Path

__all__ = ["EXAMPLES", "MODEL_DIR", "VOCABULARY", "unknown_words"]

MODEL_DIR = Path(__file__).resolve().parent
"""Folder of the checkpoint, in the layout that `WanPipeline.from_pretrained` reads."""

EXAMPLES = (
    "a red sun rising over blue mountains and a calm sea",
    "an orange balloon drifting right over green hills and a quiet lake under a pink sky",
    "a white boat sailing left over purple mountains and a calm sea under a night sky with stars",
    "a yellow moon rising over grey mountains and a snowy plain under a night sky with stars",
    "a red balloon rising over blue mountains and a green meadow under a blue sky with soft clouds",
    "a purple boat sailing right over green hills and a quiet lake under a golden sky",
)
"""Prompts that show what the model can do."""


@cache
def _words() -> frozenset[str]:
    tokenizer = json.loads((MODEL_DIR / "tokenizer" / "tokenizer.json").read_text())
    return frozenset(word for word in tokenizer["model"]["vocab"] if not word.startswith("<"))


VOCABULARY: tuple[str, ...] = tuple(sorted(_words()))
"""Every word the model knows, sorted. Case and punctuation don't count, and "gray" reads as "grey"."""


def unknown_words(prompt: str) -> list[str]:
    """The words of `prompt` that the model doesn't know, each once, in lower case and in their order.

    An unknown word isn't an error: the model passes over it.
    """
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)*", prompt.lower().replace("gray", "grey"))
    return list(dict.fromkeys(word for word in words if word not in _words()))
