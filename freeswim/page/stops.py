"""Stop, for the visitor who asks: the run's own stream of updates ends, so that nothing of it can come after."""

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import closing

from freeswim.page.runner import Run, Update
from freeswim.page.source import Source
from freeswim.request import Request


class Stops:
    """The runs under way, by their visitor's session, each with the signal that ends it."""

    def __init__(self) -> None:
        self._signals: dict[str, threading.Event] = {}

    def ask(self, session: str) -> bool:
        """Ends the session's run at its next update, within a second; False when it has none."""
        signal = self._signals.get(session)
        if signal is not None:
            signal.set()
        return signal is not None

    def wrap(self, run: Run, session: str) -> Run:
        """`run` for one session: after `ask` it is closed, and its last update is of the state "stopped"."""

        def run_until_stopped(request: Request, source: Source | None = None) -> Iterator[Update]:
            signal = self._signals[session] = threading.Event()
            try:
                with closing(run(request, source)) as updates:  # type: ignore[type-var]
                    for update in updates:
                        if signal.is_set() and not update.status.ended:
                            yield _stopped(update)
                            return
                        yield update
            finally:
                if self._signals.get(session) is signal:
                    del self._signals[session]

        return run_until_stopped


def _stopped(update: Update) -> Update:
    message = "What was finished is kept." if update.clips else "Nothing was finished yet."
    status = dataclasses.replace(update.status, state="stopped", message=message)
    return dataclasses.replace(update, status=status, preview="")
