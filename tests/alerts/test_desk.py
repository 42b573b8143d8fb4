"""Worker and backstop over a whole night: one episode is seen, whoever saw it first.

Times are seconds. Prometheus evaluates every 15 s, says an alert's state when it changes, and
repeats it once a minute; the worker says it at once and repeats it every 30 s.
"""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.alerts.incident import Source
from pipeline.alerts.referee import SOURCE_ANNOTATION
from tests.alerts.watches import LIFETIME, PATIENCE, Watch, word

START = 1_000_000.0
Spoken = tuple[float, Literal["w+", "w-", "b+", "b-", "marks", "killed"]]


def play(spoken: list[Spoken], gone: tuple[float, float] = (1e9, 1e9), until: float = 600) -> Watch:
    """What comes of these words, with the worker's marks every 5 s except while it is gone."""
    watch = Watch(START - 3600)
    marks: list[Spoken] = [
        (float(t), "marks") for t in range(-100, int(until), 5) if not gone[0] <= t < gone[1]
    ]
    since = {"w": 0.0, "b": 0.0}
    firing = {"w": False, "b": False}
    for when, what in sorted(spoken + marks):
        now = START + when
        if what == "marks":
            watch.mark(now, now)
            continue
        if what == "killed":
            watch.killed(now)
            continue
        source: Source = "worker" if what[0] == "w" else "backstop"
        ends = what[1] == "-"
        if not ends and not firing[what[0]]:
            since[what[0]] = now
        firing[what[0]] = not ends
        watch.hear(now, word(source, now, since[what[0]], ended=now if ends else None))
    watch.until(START + until)
    return watch


def told(watch: Watch) -> list[tuple[float, str]]:
    """Notifications by their second; a group is flushed once a second."""
    return [(int(now - START), state) for now, state in watch.told]


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        pytest.param(
            [(10, "w+"), (20, "b+"), (40, "w+"), (70, "w+"), (80, "b+"), (90, "w-"), (95, "b-")],
            [(10, "firing"), (90, "resolved")],
            id="the worker is first",
        ),
        pytest.param(
            [(10, "b+"), (25, "w+"), (55, "w+"), (85, "w+"), (90, "w-"), (95, "b-")],
            [(25, "firing"), (90, "resolved")],
            id="the backstop is first",
        ),
        pytest.param(
            [(10, "w+"), (15, "b+"), (60, "w-"), (75, "b+"), (76, "b-")],
            [(10, "firing"), (60, "resolved")],
            id="an echo",
        ),
        pytest.param(
            [(10, "w+"), (15, "b+"), (60, "w-"), (75, "b+"), (95, "b+"), (155, "b+"), (160, "b-")],
            [(10, "firing"), (60, "resolved"), (95, "firing"), (160, "resolved")],
            id="more than an echo",
        ),
        pytest.param(
            [(10, "b+"), (70, "b+"), (130, "b+"), (135, "b-")],
            [(40, "firing"), (135, "resolved")],
            id="the worker does not know of it",
        ),
        pytest.param([(10, "b+"), (35, "b-")], [], id="a doubt that passes"),
        pytest.param(
            [(10, "w+"), (12, "w-"), (20, "w+"), (22, "w-")],
            [(10, "firing"), (12, "resolved"), (20, "firing"), (22, "resolved")],
            id="episodes of the worker alone",
        ),
    ],
)
def test_while_the_worker_is_there(spoken: list[Spoken], expected: list[tuple[int, str]]) -> None:
    told_soon(play(spoken), expected)


def told_soon(watch: Watch, expected: list[tuple[int, str]]) -> None:
    """As expected, up to a group_interval (1 s) later."""
    assert watch.states() == [state for _, state in expected]
    for (now, _), (due, _) in zip(told(watch), expected, strict=True):
        assert due <= now <= due + 1


@pytest.mark.parametrize(
    ("spoken", "back", "expected"),
    [
        pytest.param(
            [(10, "w+"), (20, "b+"), (80, "b+"), (140, "b+"), (200, "b+"), (245, "b-")],
            1e9,
            [(10, "firing"), (245, "resolved")],
            id="it goes on with what the worker opened",
        ),
        pytest.param(
            [(100, "b+"), (160, "b+"), (190, "b-")],
            1e9,
            [(100, "firing"), (190, "resolved")],
            id="it opens and closes",
        ),
        pytest.param(
            [(75, "b+"), (135, "b+"), (190, "b-")],
            1e9,
            [(85, "firing"), (190, "resolved")],
            id="a doubt ends when the worker's mark does",
        ),
        pytest.param(
            [(100, "b+"), (131, "w+"), (160, "b+"), (161, "w+"), (190, "w-"), (200, "b-")],
            130,
            [(100, "firing"), (190, "resolved")],
            id="the worker adopts what the backstop opened",
        ),
        pytest.param(
            [(100, "b+"), (160, "b+"), (220, "b+"), (250, "b-")],
            130,
            [(100, "firing"), (250, "resolved")],
            id="the worker does not know what the backstop opened",
        ),
        pytest.param(
            [(10, "w+"), (20, "b+"), (65, "b-"), (125, "b-"), (131, "w-")],
            130,
            [(10, "firing"), (125, "resolved")],
            id="it closes what the worker opened",
        ),
    ],
)
def test_without_the_worker_from_30_s_on(
    spoken: list[Spoken], back: float, expected: list[tuple[int, str]]
) -> None:
    watch = play(spoken, gone=(30, back))
    told_soon(watch, expected)
    assert watch.handovers == (2 if back < 1e9 else 1) * 2


def test_disagreements_are_counted_once_and_marked() -> None:
    watch = play([(10, "b+"), (70, "b+"), (130, "b+"), (135, "b-")])
    assert (watch.ruled["disagreement"], watch.ruled["doubted"]) == (1, 1)
    assert watch.annotations[0][SOURCE_ANNOTATION] == "backstop"
    handed_back = play([(100, "b+"), (160, "b+"), (220, "b+")], gone=(30, 110))
    assert handed_back.ruled["disagreement"] == 1


def test_echoes_are_counted() -> None:
    watch = play([(10, "w+"), (15, "b+"), (60, "w-"), (75, "b+"), (76, "b-")])
    assert watch.ruled["echo"] == 1
    assert SOURCE_ANNOTATION not in watch.annotations[0]


def test_kill_during_a_doubt_neither_loses_nor_hastens_it() -> None:
    watch = play([(10, "b+"), (25, "killed"), (70, "b+"), (100, "b-")])
    told_soon(watch, [(25 + PATIENCE, "firing"), (100, "resolved")])


class TestLaggingWorker:
    """It says old things late; its marks are old, so it isn't there."""

    def lagging(self, lag: float, *words: tuple[float, float, float | None]) -> Watch:
        """Each word is when it was said (event time), since when it fires, and the end."""
        watch = Watch(START - lag - 3600)
        watch.until(START)
        for said, since, ended in words:
            now = START + said + lag
            watch.mark(now, START + said)
            end = None if ended is None else START + ended
            watch.hear(now, word("worker", START + said, START + since, ended=end))
        watch.until(START + lag + 5000)
        return watch

    def test_what_began_and_ended_an_hour_ago_is_not_told(self) -> None:
        assert self.lagging(3600, (0, 0, None), (30, 0, None), (45, 0, 45)).told == []

    def test_what_still_fires_is_told_when_the_worker_has_caught_up(self) -> None:
        watch = Watch(START - 7200)
        for event in range(0, 3600, 30):
            now = START + 3600 + event / 60
            watch.mark(now, START + event)
            watch.hear(now, word("worker", START + event, START))
        assert [(state, now) for now, state in watch.told] == [
            ("firing", pytest.approx(START + 3600 + 3420 / 60, abs=1))
        ]

    def test_lag_that_grows_does_not_end_what_fires(self) -> None:
        watch = Watch(START - 7200)
        for event in range(0, 3600, 30):
            now = START + event * 1.5
            watch.mark(now, START + event)
            watch.hear(now, word("worker", START + event, START))
        assert watch.states() == ["firing"]

    def test_replay_of_a_day_says_nothing_new(self) -> None:
        words: list[Spoken] = [(10, "w+"), (40, "w+"), (50, "w-"), (90, "w+")]
        watch = play(words)
        told_before = list(watch.told)
        for when, what in words:
            ended = START + when if what == "w-" else None
            report = word("worker", START + when, START + when, ended=ended)
            watch.hear(START + 600, report)
        assert watch.told == told_before
        assert watch.ruled["old"] == 4


def test_clock_set_back_does_not_hold_notifications_up() -> None:
    watch = Watch(START)
    watch.hear(START, word("api", START, START))
    back = START - 3600
    watch.desk.wake(int(back * 1000))
    watch.hear(back + 5, word("api", back + 5, START, ended=back + 4))
    watch.until(back + 10)
    assert watch.states() == ["firing", "resolved"]


def test_sleep_ends_nothing_that_is_said_again() -> None:
    watch = Watch(START)
    watch.hear(START, word("api", START, START))
    asleep_until = START + 3600
    watch.desk.wake(int(asleep_until * 1000))
    watch.until(asleep_until + 60)
    watch.hear(asleep_until + 60, word("api", asleep_until + 60, START))
    watch.until(asleep_until + 200)
    assert watch.states() == ["firing"]
    watch.until(asleep_until + 3600)
    assert watch.states() == ["firing", "resolved"]


# Any interleaving: a true story, told by a worker that comes and goes and by a Prometheus whose
# posts are lost while the dispatcher is down.

Span = tuple[float, float]
LAST = 3600.0


@st.composite
def spans(draw: st.DrawFn, most: int, lasting: Span, apart: Span) -> list[Span]:
    found = []
    at = 0.0
    for _ in range(draw(st.integers(0, most))):
        begin = at + draw(st.integers(*map(int, apart)))
        at = begin + draw(st.integers(*map(int, lasting)))
        if at > LAST - 400:
            break
        found.append((float(begin), float(at)))
    return found


def inside(when: float, spans: list[Span]) -> bool:
    return any(begin <= when < end for begin, end in spans)


def worker_says(episodes: list[Span], gone: list[Span]) -> list[tuple[float, float, str, float]]:
    """(when it arrives, event time, what, since): late, but in order, what it has to catch up."""
    said = [(float(t), "mark", 0.0) for t in range(0, int(LAST), 5)]
    for begin, end in episodes:
        said += [(t, "w+", begin) for t in _every(30, begin, end)] + [(end, "w-", begin)]
    words = []
    ready = 0.0
    for event, what, since in sorted(said):
        ready = max(ready, event)
        away = [end for begin, end in gone if begin <= ready < end]
        # Started again, it takes a moment; then it catches up with 20 words a second.
        ready = max(away) + 5 if away else ready + 0.05
        words.append((ready, event, what, since))
    return words


def prometheus_says(episodes: list[Span]) -> list[tuple[float, float, str, float]]:
    """It repeats an end for 15 minutes, or until the alert fires again."""
    words = []
    seen = [(-(-begin // 15) * 15 + 1, -(-end // 15) * 15 + 1) for begin, end in episodes]
    for (begin, over), (again, _) in zip(seen, [*seen, (LAST, LAST)][1:], strict=True):
        words += [(t, t, "b+", begin) for t in _every(60, begin, over)]
        words += [(t, over, "b-", begin) for t in _every(60, over, min(over + 900, again))]
    return words


def _every(step: int, begin: float, end: float) -> list[float]:
    return [begin + i * step for i in range(int(-(-(end - begin) // step)))]


def watch_the_night(episodes: list[Span], gone: list[Span], down: list[Span]) -> Watch:
    """Records of Kafka wait while the dispatcher is down; posts are lost."""
    watch = Watch(START - 100)
    events = [
        (when, 1, event, what, since) for when, event, what, since in prometheus_says(episodes)
    ]
    events += [
        (when, 0, event, what, since) for when, event, what, since in worker_says(episodes, gone)
    ]
    events += [(end, -1, end, "killed", 0.0) for _, end in down]
    events += [(begin, -1, begin, "last", 0.0) for begin, _ in down]
    waiting = []
    for when, order, event, what, since in sorted(events):
        now = START + when
        if what == "last":
            watch.until(now)
        elif inside(when, down):
            if order == 0:
                waiting.append((event, what, since))
        elif what == "killed":
            watch.killed(now)
            for held in waiting:
                _tell(watch, now, *held)
            waiting = []
        else:
            _tell(watch, now, event, what, since)
    watch.until(START + LAST)
    return watch


def _tell(watch: Watch, now: float, event: float, what: str, since: float) -> None:
    if what == "mark":
        watch.mark(now, START + event)
        return
    source: Source = "worker" if what[0] == "w" else "backstop"
    ended = START + event if what[1] == "-" else None
    # Prometheus' words are dated by their arrival, the worker's by event time.
    said = START + event if source == "worker" else now
    watch.hear(now, word(source, said, START + since, ended=ended))


@settings(max_examples=60, deadline=None)
@given(
    # Apart by more than a mark's lifetime, a restart's patience and two of Prometheus' repetitions:
    # an end that only Prometheus knows, and says while nobody hears it, is told so late.
    episodes=spans(4, lasting=(100, 900), apart=(330, 600)),
    gone=spans(3, lasting=(5, 900), apart=(30, 600)),
    down=spans(5, lasting=(1, 45), apart=(100, 900)),
)
@example(episodes=[(150.0, 500.0)], gone=[(160.0, 700.0)], down=[])
@example(episodes=[(150.0, 400.0), (600.0, 900.0)], gone=[(100.0, 950.0)], down=[(395.0, 420.0)])
def test_any_interleaving_makes_one_episode_of_each(
    episodes: list[Span], gone: list[Span], down: list[Span]
) -> None:
    watch = watch_the_night(episodes, gone, down)
    assert watch.states() == ["firing", "resolved"] * len(episodes)
    for (begin, end), fired, resolved in zip(
        episodes, watch.told[::2], watch.told[1::2], strict=True
    ):
        assert begin <= fired[0] - START < end + LIFETIME
        assert end <= resolved[0] - START
