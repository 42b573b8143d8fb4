"""The terminal view: a snapshot in, something that rich can show out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.local.receiver import Arrival
from pipeline.local.snapshot import ShownAlert, Snapshot, TargetGroup, missing_or

_DOTS = {
    "running": ("●", "green"),
    "starting": ("◌", "yellow"),
    "waiting": ("○", "dim"),
    "silent": ("●", "yellow"),
    "paused": ("●", "red"),
    "stopped": ("○", "dim"),
}
_SEVERITIES = {"critical": "bold red", "high": "red", "medium": "yellow"}
_BORDER = 2
_TARGETS_WIDTH = 34
_LEAST_ARRIVALS = 3


def render(snapshot: Snapshot, height: int) -> RenderableType:
    """The view for a terminal of that many lines; made for 80 x 24 and more."""
    header = _header(snapshot)
    hints = snapshot.hints[: max(2, height - 20)]
    arrivals = max(_LEAST_ARRIVALS, (height - 20) // 2)
    middle = height - len(header) - len(hints) - arrivals - 2 * _BORDER - 1
    layout = Layout()
    columns = Layout(name="middle", size=max(middle, _BORDER + 1))
    columns.split_row(
        Layout(_targets(snapshot, columns.size or 0), size=_TARGETS_WIDTH),
        Layout(_alerts(snapshot, columns.size or 0)),
    )
    layout.split_column(
        Layout(Group(*header), size=len(header)),
        columns,
        Layout(_arrivals(snapshot, arrivals), size=arrivals + _BORDER),
        Layout(_hints(hints), size=len(hints) + _BORDER),
    )
    return layout


def line(snapshot: Snapshot) -> str:
    """The same in one line of key=value, for a log or a pipe."""
    numbers = snapshot.numbers
    up, known = _up(snapshot.targets)
    running = sum(part.state == "running" for part in snapshot.parts)
    return (
        f"time={_clock(snapshot.event_time_s)} parts={running}/{len(snapshot.parts)} "
        f"targets={up}/{known} samples_per_s={missing_or(snapshot.samples_per_second, '.0f')} "
        f"anomalies={missing_or(numbers.anomalies, '.0f')} pending={len(snapshot.pending)} "
        f"firing={len(snapshot.firing)} delivered={missing_or(numbers.delivered, '.0f')} "
        f"p50_ms={_milliseconds(numbers.latency_p50_s)} "
        f"p99_ms={_milliseconds(numbers.latency_p99_s)} lag={missing_or(numbers.lag, '.0f')}"
    )


def _header(snapshot: Snapshot) -> list[Text]:
    title = Text.assemble(
        ("Watchkeeper", "bold"),
        f"   {_clock(snapshot.event_time_s)} UTC",
        (f"   speed {snapshot.speed:g}" if snapshot.speed != 1.0 else "", "yellow"),
        ("   Ctrl-C stops everything it started", "dim"),
    )
    parts = Text()
    for part in snapshot.parts:
        dot, style = _DOTS[part.state]
        parts.append(f"{dot} ", style)
        parts.append(f"{part.name}  ", "" if part.state == "running" else style)
    numbers = snapshot.numbers
    figures = Text.assemble(
        (missing_or(snapshot.samples_per_second, ",.0f"), "bold"),
        " samples/s   ",
        (missing_or(numbers.anomalies, ",.0f"), "bold"),
        " anomalies   lag ",
        (missing_or(numbers.lag, ",.0f"), "bold"),
        "   sample to page p50 ",
        (_milliseconds(numbers.latency_p50_s), "bold"),
        " p99 ",
        (_milliseconds(numbers.latency_p99_s), "bold"),
        " ms",
    )
    notes = [Text(f"{part.name}: {part.note}", "red") for part in snapshot.parts if part.note]
    lines = [title, parts, figures, *notes, *(Text(text, "dim") for text in snapshot.missing)]
    for text in lines:
        text.no_wrap, text.overflow = True, "ellipsis"
    return lines


def _targets(snapshot: Snapshot, height: int) -> Panel:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(justify="right", no_wrap=True)
    rows = height - _BORDER - (1 if snapshot.down else 0)
    for group in snapshot.targets[:rows]:
        style = "green" if group.up == group.total else "bold red"
        name = Text.assemble(group.feed, (f" {group.job}", "dim"))
        table.add_row(name, Text(f"{group.up}/{group.total}", style))
    content: list[RenderableType] = [table]
    if snapshot.down:
        names = Text(f"down: {', '.join(snapshot.down)}", "red", no_wrap=True, overflow="ellipsis")
        content.append(names)
    up, known = _up(snapshot.targets)
    return Panel(Group(*content), title=f"targets {up}/{known} up", title_align="left")


def _alerts(snapshot: Snapshot, height: int) -> Panel:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(no_wrap=True, justify="right", width=9)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
    rows = height - _BORDER
    shown = [(alert, False) for alert in snapshot.firing]
    shown += [(alert, True) for alert in snapshot.pending]
    fitting = shown if len(shown) <= rows else shown[: rows - 1]
    for alert, pending in fitting:
        table.add_row(_when(alert, pending), _name(alert), alert.where)
    if len(fitting) < len(shown):
        table.add_row("", Text(f"and {len(shown) - len(fitting)} more", "dim"), "")
    if not shown:
        table.add_row("", Text("none", "dim"), "")
    title = f"alerts: {len(snapshot.firing)} firing, {len(snapshot.pending)} pending"
    return Panel(table, title=title, title_align="left", border_style=_border(snapshot))


def _border(snapshot: Snapshot) -> str:
    if snapshot.firing:
        return "red"
    return "yellow" if snapshot.pending else "none"


def _when(alert: ShownAlert, pending: bool) -> Text:
    if pending:
        return Text(f"in {_span(alert.seconds)}", "yellow")
    return Text(f"for {_span(alert.seconds)}", "red")


def _name(alert: ShownAlert) -> Text:
    return Text(alert.name, _SEVERITIES.get(alert.severity, ""))


def _arrivals(snapshot: Snapshot, rows: int) -> Panel:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(no_wrap=True, width=8)
    table.add_column(no_wrap=True, width=8)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for arrival in snapshot.arrivals[:rows]:
        status = arrival.notification.status
        style = "red" if status == "firing" else "green"
        table.add_row(_local_clock(arrival.time_s), Text(status, style), _summary(arrival))
    delivered = missing_or(snapshot.numbers.delivered, ",.0f")
    return Panel(table, title=f"notifications: {delivered} delivered", title_align="left")


def _summary(arrival: Arrival) -> str:
    """`Name on place: summary` of a notification's first alert, and how many more it has."""
    alerts = arrival.notification.alerts
    if not alerts:
        return ""
    first = alerts[0]
    text = first.labels.get("alertname", "")
    place = first.labels.get("node") or first.labels.get("instance")
    text += f" on {place}" if place else ""
    if summary := first.annotations.get("summary"):
        text += f": {summary}"
    return text + (f" (+{len(alerts) - 1})" if len(alerts) > 1 else "")


def _hints(hints: Sequence[tuple[str, str]]) -> Panel:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(no_wrap=True, overflow="ellipsis")
    for purpose, what in hints:
        table.add_row(purpose, what)
    return Panel(table, title="try next", title_align="left", border_style="cyan")


def _up(groups: Sequence[TargetGroup]) -> tuple[int, int]:
    return sum(group.up for group in groups), sum(group.total for group in groups)


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _local_clock(time_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(time_s))


def _milliseconds(seconds: float | None) -> str:
    return missing_or(None if seconds is None else seconds * 1000, ",.0f")


def _span(seconds: float) -> str:
    """A duration in at most six characters.

    >>> [_span(s) for s in (5.2, 65, 3700, 180000)]
    ['5s', '1m05s', '1h01m', '2d02h']
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
