"""Every word that the page shows, apart from the labels that models and errors bring along."""

from html import escape

TITLE = "FreeSwim"

TO_STAGE = "See an example"
INTRO = (
    "FreeSwim makes a text-to-video model draw several times larger than it was trained for, without training it "
    "again. Beside it: the same prompt and the same noise, when small windows draw without a view of the whole scene."
)

NATIVE_TEXT = (
    "What the model makes at the size it was trained for. Both large videos start from this one: count what is in it, "
    "then count again in each of them."
)

FREESWIM_LABEL = "FreeSwim"
NAIVE_LABEL = "Naive sliding windows"
NATIVE_LABEL = "Native video"
YOUR_VIDEO_LABEL = "Yours, enlarged"
YOUR_VIDEO = "your video"
VIDEO_LABELS = {"freeswim": FREESWIM_LABEL, "naive": NAIVE_LABEL, "base": NATIVE_LABEL}

CLIP_LABEL = "Your video"
CLIP_NOTE = (
    "<p>It is remade at a larger size, after a prompt that says what is in it. Up to 200 MB; its beginning is used, as "
    "long as the model's own videos are, and its sound is not.</p>"
)

# label and one-line explanation of each field, by its name in the form and in the API
FIELDS: dict[str, tuple[str, str]] = {
    "prompt": ("Prompt", ""),
    "model": ("Model", ""),
    "resolution": ("Resolution", "A preset, or type your own as WIDTHxHEIGHT."),
    "quality": ("Quality", ""),
    "seed": ("Seed", ""),
    "randomize": ("New every run", ""),
    "frames": ("Frames", "Length of the video. One more than a multiple of four."),
    "steps": ("Steps", "Denoising steps of each stage. More take longer and look cleaner."),
    "strength": ("Strength", "How much of the enlarged native video is drawn anew. 1 starts from pure noise."),
    "guidance_scale": ("Guidance", "How closely the video follows the prompt."),
    "flow_shift": ("Shift", "Higher spends more of the steps on layout, lower on fine detail."),
    "negative_prompt": ("Negative prompt", "What the video should not look like."),
    "guide": ("Guide", "What sees the whole scene: a small copy of it, the full-size one (slow), or nothing."),
    "override": ("Override", "What the guide hands to the windows: its reading of the prompt, its view, or both."),
    "context_until": ("Context until", "Share of the steps in which windows see the guide's view. Less is crisper."),
    "anchor_above": ("Anchor above", "While noisier than this, the layout is the guide's own. 1 is off."),
    "refresh_interval": ("Refresh interval", "Compute the guide once in so many steps and reuse it between."),
    "refresh_until": ("Refresh until", "Share of the steps after which the guide is frozen."),
    "guide_unconditional": ("Guide the unprompted pass too", "Slower. Guidance compares it with the prompted pass."),
    "window_height": ("Window height", "Rows of tokens that one query sees. The model was trained on this many."),
    "window_width": ("Window width", "Columns of tokens that one query sees."),
    "tile_height": ("Tile height", "Rows of queries that share a window. 1 is exact, a third of the window is faster."),
    "tile_width": ("Tile width", "Columns of queries that share a window."),
    "shift_tiles": ("Shift tiles", "Moves the tiles by half in every second layer, so that no seam stays in place."),
    "window_mode": ("Window placement", "Where a window at the border goes. Inward is the method, the others are not."),
    "guide_height": ("Guide height", "Rows of tokens in the small copy of the scene."),
    "guide_width": ("Guide width", "Columns of tokens in the small copy of the scene."),
    "logit_scale": ("Logit scale", "Sharpens attention at large sizes. 1 is off."),
    "naive_mode": ("Naive windows", "What to compare with: windows cut off at the border, or separate blocks."),
}

RESTORE_LABEL = "Settings from a video"
RESTORED = "The settings of this video are in the form now."
RESTORED_OWN = (
    "The settings of this video are in the form now. It was made from a video of your own, which the file does not "
    "hold: choose that one again under “Your own video”."
)

GUIDES = (("Small copy of the scene", "downsampled"), ("Full size, as published", "full"), ("None", "none"))
WINDOW_MODES = (("Inward", "inward"), ("Clipped at the border", "clipped"), ("Separate blocks", "blocks"))
OVERRIDES = (("Both", "both"), ("Its reading of the prompt, as published", "output"), ("Its view", "context"))
NAIVE_MODES = (("Clipped at the border", "clipped"), ("Separate blocks", "blocks"))

_ARGUMENTS = (
    "Every argument but the prompt{video} has a default; None means the model's own. While it runs it yields what "
    'exists so far, with the current stage and step (or the place in line) under "status" in the details; cancelling '
    "the job stops it within one step. Arguments: model (embedded, wan2.1-1.3b, wan2.1-14b); resolution as "
    "WIDTHxHEIGHT; strength 0..1; flow_shift; frames 4k+1{frames}; guide (downsampled, full, none); override "
    "(both, output, context); refresh_interval in steps; context_until, anchor_above and refresh_until 0..1; window, "
    "query_tile and guide_grid as HEIGHTxWIDTH in tokens; shift_tiles; window_mode (inward, clipped, blocks); "
    "quality (draft, balanced, best) fills steps, frames, refresh_interval, override and anchor_above where they are "
    "None; "
    "logit_scale; naive_mode (clipped, blocks); "
    "compare=False leaves the naive video out."
)

API_DESCRIPTION = (
    "Makes one video with FreeSwim and, from the same native video, noise and seed, the same with naive sliding "
    "windows. Returns four values in this order: the FreeSwim video, the naive video, the native video (mp4 files), "
    "and the run's details (settings, sizes, seconds per stage). " + _ARGUMENTS.format(video="", frames="")
)

REFINE_DESCRIPTION = (
    "Remakes a video of your own at a larger size with FreeSwim, after a prompt that says what is in it, and the same "
    "with naive sliding windows. Returns four values in this order: the FreeSwim video, the naive video, your video "
    "enlarged (mp4 files), and the run's details. The first frames are used, as many as the model makes itself; a "
    "video of about twice its frames per second or more is thinned to every second, third ... frame. "
    + _ARGUMENTS.format(video=" and the video", frames=" that are used at most")
)

ESTIMATE_DESCRIPTION = (
    "How long a call of /generate with the same arguments would take on this device and how much memory it would need, "
    "without running it; with own_frames, the length of a video, of /refine. Returns JSON: seconds, memory (bytes), "
    "stages (seconds of each), settings, the request with every default filled in, and refused: why such a call would "
    "not be run here and what would, or null. Bad input is refused as by /generate."
)


def size_label(width: int, height: int) -> str:
    """`512 × 288`."""
    return f"{width} × {height}"


def vocabulary_note(words: tuple[str, ...]) -> str:
    """The line under the prompt when every word of it is known to the embedded model."""
    listed = escape(" ".join(words))
    return f"<details><summary>This small model knows {len(words)} words</summary><p>{listed}</p></details>"


def unknown_words_note(unknown: list[str], words: tuple[str, ...]) -> str:
    """The line under the prompt that names the words which the embedded model does not know."""
    named = ", ".join(f"<b>{escape(word)}</b>" for word in unknown)
    listed = escape(" ".join(words))
    return (
        f'<details class="unknown"><summary>Unknown to this model: {named}</summary><p>It knows: {listed}</p></details>'
    )


ANY_PROMPT_NOTE = "<p>A sentence or two: what is seen, how it moves, how the picture looks.</p>"


def clip_note(used: str) -> str:
    """The line under a visitor's video that says what is used of it."""
    return f"<p>{escape(used)}</p>"


def refused_note(reason: str) -> str:
    """The line under a visitor's video that can't be used."""
    return f'<p class="refused" role="alert">{escape(reason)}</p>'
