"""The progress bar of the command line."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tqdm import tqdm

if TYPE_CHECKING:
    from freeswim.progress import Progress  # for its type only


class ProgressBar:
    """One bar on standard error for each stage: its name, its steps, and the time that the whole run has left."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.stage = ""
        self._quiet = quiet
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def on_progress(self, progress: "Progress") -> None:
        self.show(progress.stage, progress.step, progress.total, progress.remaining)

    def show(self, stage: str, step: int, total: int, remaining: float | None = None) -> None:
        """Draws `step` of `total` of a stage; `remaining` seconds of the run, if known."""
        if stage != self.stage or self._bar is None:
            self.close()
            self.stage = stage
            self._bar = tqdm(
                total=total,
                desc=f"{stage:>15}",
                bar_format="{desc} {n_fmt}/{total_fmt} |{bar:24}| {elapsed}{postfix}",
                file=sys.stderr,
                disable=self._quiet,
                mininterval=0,
            )
        left = "" if remaining is None else f"about {tqdm.format_interval(remaining)} left"
        self._bar.set_postfix_str(left, refresh=False)
        self._bar.n = step
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
