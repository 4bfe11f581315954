"""The line of visitors: runs begin in the order they were asked for, and those who wait are told their place."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from freeswim.page.runner import Run, Update
from freeswim.page.source import Source
from freeswim.page.status import Status
from freeswim.request import Request

_TICK = 1.0  # seconds after which a waiting visitor hears again
# Seconds for which nobody may ask for a run's next update, which comes every second. gradio leaves some runs behind
# unended: cancelling one of a script's jobs also cuts off its others of the same endpoint.
_PATIENCE = 20.0


@dataclass(eq=False)  # two tickets may well hold the same numbers
class _Ticket:
    seconds: float | None  # that its run will still take, as far as known
    updates: Generator[Update, None, None] | None = None
    idle_since: float | None = None  # when its latest update was handed out; None while the next is being made
    gone: bool = False  # nobody asked for so long that its place was given away


class Line:
    """Lets `places` runs go on at a time."""

    def __init__(self, places: int = 1) -> None:
        self._places = places
        self._tickets: list[_Ticket] = []
        self._moved = threading.Condition()

    def __len__(self) -> int:
        """How many run or wait."""
        return len(self._tickets)

    def wrap(self, run: Run, expected: Callable[[Request, Source | None], float | None]) -> Run:
        """`run`, after a wait for its turn, during which updates of the state "waiting" tell the place.

        expected: how many seconds a run will take, for the times of those behind it.
        """

        def run_in_turn(request: Request, source: Source | None = None) -> Iterator[Update]:
            with self._ticket(expected(request, source)) as ticket:
                ticket.updates = self._updates(ticket, run, request, source)
                for update in ticket.updates:
                    ticket.idle_since = time.monotonic()
                    yield update
                    ticket.idle_since = None
                    if ticket.gone:
                        yield Update(status=Status(state="failed", message="Nobody followed this run any more."))
                        return

        return run_in_turn

    def _updates(
        self, ticket: _Ticket, run: Run, request: Request, source: Source | None
    ) -> Generator[Update, None, None]:
        while not self._my_turn(ticket, _TICK):
            yield Update(status=self._waiting(ticket))
        for update in run(request, source):
            if update.status.remaining is not None:
                ticket.seconds = update.status.remaining
            yield update

    @contextmanager
    def _ticket(self, seconds: float | None) -> Iterator[_Ticket]:
        ticket = _Ticket(seconds)
        with self._moved:
            self._tickets.append(ticket)
        try:
            yield ticket
        finally:
            self._leave(ticket)
            if ticket.updates is not None:
                ticket.updates.close()

    def _leave(self, ticket: _Ticket) -> None:
        with self._moved:
            self._tickets = [other for other in self._tickets if other is not ticket]
            self._moved.notify_all()

    def _drop_the_forgotten(self) -> None:
        """Ends the runs that nobody asks about any more, and lets those behind them move up."""
        with self._moved:
            now = time.monotonic()
            idle = [t for t in self._tickets if t.idle_since is not None and now - t.idle_since > _PATIENCE]
            for ticket in idle:
                ticket.gone = True
        for ticket in idle:
            self._leave(ticket)
            if ticket.updates is not None:
                ticket.updates.close()

    def _ahead(self, ticket: _Ticket) -> list[_Ticket]:
        return self._tickets[: next(i for i, other in enumerate(self._tickets) if other is ticket)]

    def _my_turn(self, ticket: _Ticket, timeout: float) -> bool:
        self._drop_the_forgotten()
        with self._moved:
            return self._moved.wait_for(lambda: len(self._ahead(ticket)) < self._places, timeout)

    def _waiting(self, ticket: _Ticket) -> Status:
        with self._moved:
            ahead = self._ahead(ticket)
        waits = [other.seconds for other in ahead]
        known = [seconds for seconds in waits if seconds is not None]
        remaining = sum(known) / self._places if len(known) == len(waits) else None
        return Status(state="waiting", place=len(ahead) - self._places + 1, remaining=remaining)
