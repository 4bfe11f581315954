"""Draws docs/quality: plots and contact sheets from what `python -m benchmarks.quality` wrote, and prints its tables.

python -m benchmarks.quality.report table.json --frames frames --output docs/quality
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from benchmarks.quality.variants import file_stem

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Row = dict[str, Any]
COLUMNS = {
    "one": ("one subject", "{:.0%}"),
    "right": ("the right one", "{:.0%}"),
    "subjects": ("subjects a clip", "{:.1f}"),
    "caption": ("caption", "{:.0%}"),
    "structure": ("structure, dB", "{:.1f}"),
    "detail": ("detail", "{:.2f}"),
    "width": ("subject's width", "{:.2f}"),
    "seam": ("seam", "{:.3f}"),
    "token_seam": ("token seam", "{:.3f}"),
    "flicker": ("flicker", "{:+.2f}"),
}
COST = {"seconds_per_step": ("s a step", "{:.2f}"), "peak_gib": ("GiB", "{:.1f}")}
PLOTTED = ("one", "structure", "detail", "seam")
IDEAL = {"one": 1.0, "seam": 1.0}
SHEET_ROWS = (
    "native, enlarged", "full attention", "blocks (naive)", "clipped windows (naive)", "inward windows",
    "paper: every 2 steps", "output, every 2 steps", "context", "output and context", "default", "true scene",
)  # fmt: skip
SHEET_WIDTH = 300  # pixels of a picture in a contact sheet


def table(rows: list[Row]) -> str:
    """Markdown: means, and in small print the 95 % intervals."""
    heads = [head for head, _ in (COLUMNS | COST).values()]
    lines = ["| second stage | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        cells = []
        for name, (_, form) in COLUMNS.items():
            centre, low, high = (form.format(v).replace("%", " %") for v in row[name])
            cells.append(f"{centre} <sub>{low} – {high}</sub>")
        cells += [form.format(row[name]) if row.get(name) is not None else "" for name, (_, form) in COST.items()]
        lines.append(f"| {row['variant']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: list[Row], title: str, path: Path) -> None:
    """Means with intervals, a panel a measure, a line a row."""
    names = [row["variant"] for row in rows]
    figure, panels = plt.subplots(
        1, len(PLOTTED), figsize=(13, 0.9 + 0.27 * len(rows)), sharey=True, layout="constrained"
    )
    for panel, measure in zip(panels, PLOTTED, strict=True):
        for y, row in enumerate(rows):
            centre, low, high = row[measure]
            colour = "#0f766e" if row["variant"] == "default" else "#64748b"
            panel.plot([low, high], [y, y], color=colour, linewidth=1.6)
            panel.plot(centre, y, "o", color=colour, markersize=4.5)
        if measure in IDEAL:
            panel.axvline(IDEAL[measure], color="#cbd5e1", linewidth=1, zorder=0)
        panel.set_title(COLUMNS[measure][0], fontsize=10)
        panel.grid(axis="x", color="#eef2f6")
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), names, fontsize=8.5)
    panels[0].invert_yaxis()
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def sheet(folder: Path, path: Path) -> None:
    """A row a variant, a column a prompt, all of the same middle frame."""
    font = ImageFont.load_default(15)
    strips = []
    for name in SHEET_ROWS:
        files = sorted(folder.glob(f"{file_stem(name)}.[0-9].jpg"))
        if not files:
            continue
        pictures = [Image.open(file) for file in files]
        height = round(SHEET_WIDTH * pictures[0].height / pictures[0].width)
        strip = Image.new("RGB", (SHEET_WIDTH * len(pictures), height + 22), "white")
        ImageDraw.Draw(strip).text((4, 2), name, fill="black", font=font)
        for i, picture in enumerate(pictures):
            strip.paste(picture.resize((SHEET_WIDTH, height), Image.Resampling.LANCZOS), (i * SHEET_WIDTH, 22))
        strips.append(strip)
    whole = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    y = 0
    for strip in strips:
        whole.paste(strip, (0, y))
        y += strip.height
    whole.save(path, quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/quality"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    record = json.loads(args.table.read_text())
    print(
        f"{record['device']}, torch {record['torch']}; sky and ground misread on true scenes: {record['reader_error']}"
    )
    for size in record["sizes"]:
        rows = [row for row in record["rows"] if row["size"] == size]
        print(f"\n### {size}\n\n{table(rows)}")
        plot(
            [row for row in rows if row["group"] != "reference"],
            f"{size}: means and 95 % intervals",
            args.output / f"{size}.png",
        )
        if args.frames:
            sheet(args.frames / size, args.output / f"{size}.jpg")


if __name__ == "__main__":
    main()
