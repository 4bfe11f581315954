"""The line of visitors: in order, told their place, and left by whoever goes away."""

import threading
import time
from collections.abc import Iterator

import pytest

from freeswim.page import line as line_module
from freeswim.page.line import Line
from freeswim.page.runner import Update
from freeswim.page.source import Source
from freeswim.page.status import Status, status_html
from freeswim.page.stops import Stops
from freeswim.request import Request

REQUEST = Request(prompt="a")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "_TICK", 0.02)


class Runs:
    """A run that says it started, and ends when it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.started: list[str] = []
        self.open = 0

    def run(self, request: Request, source: Source | None = None) -> Iterator[Update]:
        self.started.append(request.prompt)
        self.open += 1
        try:
            yield Update(status=Status(state="running", remaining=40.0))
            assert self.go_on.wait(5)
            yield Update(status=Status(state="done"))
        finally:
            self.open -= 1


def test_one_at_a_time_in_order_and_told_their_place() -> None:
    runs, line = Runs(), Line()
    run = line.wrap(runs.run, lambda request, source: 100.0)
    first, second, third = (run(Request(prompt=name)) for name in ("1", "2", "3"))
    assert next(first).status.state == "running"
    waiting = [next(second).status, next(third).status]
    assert [(status.state, status.place, status.remaining) for status in waiting] == [
        ("waiting", 1, 40.0),  # what the first run itself expects
        ("waiting", 2, 140.0),
    ]
    assert "You are next" in status_html(waiting[0])
    assert "number 2 in line" in status_html(waiting[1])
    assert "begins in about 2:20" in status_html(waiting[1])
    assert runs.started == ["1"]
    assert len(line) == 3

    runs.go_on.set()
    assert [update.status.state for update in first] == ["done"]
    assert next(third).status.place == 1
    assert "done" in [update.status.state for update in second]
    assert [update.status.state for update in third][-1] == "done"
    assert runs.started == ["1", "2", "3"]
    assert len(line) == 0


@pytest.mark.parametrize("leaver", [0, 1])
def test_whoever_goes_away_makes_room(leaver: int) -> None:
    runs, line = Runs(), Line()
    run = line.wrap(runs.run, lambda request, source: None)
    visitors = [run(Request(prompt=str(i))) for i in range(3)]
    for visitor in visitors:
        next(visitor)
    assert next(visitors[2]).status.place == 2
    visitors[leaver].close()  # type: ignore[attr-defined]
    assert len(line) == 2
    if leaver == 0:
        assert next(visitors[1]).status.state == "running"
    update = next(visitors[2])
    assert (update.status.state, update.status.place, update.status.remaining) == ("waiting", 1, 40.0)


def test_a_run_that_ends_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "_TICK", 10.0)
    runs, line = Runs(), Line()
    run = line.wrap(runs.run, lambda request, source: None)
    first, second = run(REQUEST), run(REQUEST)
    next(first)
    states: list[str] = []
    waiter = threading.Thread(target=lambda: states.append(next(second).status.state))
    waiter.start()
    time.sleep(0.05)
    began = time.monotonic()
    first.close()  # type: ignore[attr-defined]
    waiter.join(5)
    assert states == ["running"]
    assert time.monotonic() - began < 2


def test_several_places() -> None:
    runs = Runs()
    run = Line(2).wrap(runs.run, lambda request, source: 30.0)
    visitors = [run(REQUEST) for _ in range(3)]
    states = [next(visitor).status for visitor in visitors]
    assert [status.state for status in states] == ["running", "running", "waiting"]
    assert (states[2].place, states[2].remaining) == (1, 40.0)


def test_a_run_that_fails_to_begin_leaves_the_line() -> None:
    def broken(request: Request, source: Source | None = None) -> Iterator[Update]:
        if request.prompt:
            raise RuntimeError("no")
        yield Update(status=Status(state="done"))

    line = Line()
    with pytest.raises(RuntimeError):
        next(line.wrap(broken, lambda request, source: None)(REQUEST))
    assert len(line) == 0


@pytest.mark.parametrize("running", [True, False])
def test_a_run_that_nobody_follows_gives_its_place_away(monkeypatch: pytest.MonkeyPatch, running: bool) -> None:
    monkeypatch.setattr(line_module, "_PATIENCE", 0.1)
    runs, line = Runs(), Line()
    run = line.wrap(runs.run, lambda request, source: None)
    first, second = run(Request(prompt="1")), run(Request(prompt="2"))
    states = [next(first).status.state, next(second).status.state]
    assert states == ["running", "waiting"]
    followed, forgotten = (second, first) if running else (first, second)
    runs.go_on.set()
    if running:
        states = [update.status.state for update in followed]
        assert (states[0], states[-1]) == ("waiting", "done")
        assert runs.open == 0, "the forgotten run goes on"
    else:
        time.sleep(0.15)
        assert [update.status.state for update in followed] == ["done"]
        assert next(run(Request(prompt="3"))).status.state == "running"
    assert [update.status.state for update in forgotten] == ["failed"]


def test_a_visitors_stop_ends_that_visitors_run_only() -> None:
    runs, stops = Runs(), Stops()
    runs.go_on.set()
    mine, other = (stops.wrap(runs.run, session)(REQUEST) for session in ("mine", "other"))
    assert [next(run).status.state for run in (mine, other)] == ["running", "running"]
    assert runs.open == 2
    assert not stops.ask("nobody")

    runs.go_on.clear()
    third = stops.wrap(runs.run, "third")(REQUEST)
    next(third)
    assert stops.ask("third")
    runs.go_on.set()
    assert [update.status.state for update in other] == ["done"]
    assert [update.status.state for update in mine] == ["done"]
    assert runs.open == 1
    third.close()  # type: ignore[attr-defined]
    assert runs.open == 0
    assert not stops.ask("third"), "a run that is over can't be stopped"


def test_a_stopped_run_is_closed_and_ends_as_stopped() -> None:
    closed = []

    def run(request: Request, source: Source | None = None) -> Iterator[Update]:
        try:
            while True:
                yield Update(status=Status(state="running", stage="native", elapsed=3.0), preview="data:,")
        finally:
            closed.append(True)

    stops = Stops()
    updates = stops.wrap(run, "mine")(REQUEST)
    next(updates)
    stops.ask("mine")
    last = list(updates)
    assert [update.status.state for update in last] == ["stopped"]
    assert (last[0].status.elapsed, last[0].status.message, last[0].preview) == (3.0, "Nothing was finished yet.", "")
    assert closed == [True]
