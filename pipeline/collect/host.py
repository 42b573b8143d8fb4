"""Watches this machine: through node_exporter while it answers, else by itself."""

from __future__ import annotations

import time

import aiohttp
import psutil

from pipeline.clock import Clock
from pipeline.collect.fetch import FetchError, fetch
from pipeline.collect.frames import FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.collect.outlet import Outlet
from pipeline.collect.pacing import interval_ms, next_due_ms
from pipeline.collect.scraper import ACCEPT
from pipeline.collect.status import Status
from pipeline.collect.targets import Watched
from pipeline.ingest.host import Disk, Filesystem, HostSnapshot, Interface, read_host
from pipeline.ingest.prometheus_text import TextParser
from pipeline.ingest.readings import Readings
from pipeline.ingest.series_text import ParseError
from pipeline.model import Target, labels_from
from pipeline.settings import CollectSettings

JOB = "node"
BUILT_IN = "host"
"""The feed of what is read without node_exporter."""


def host_watched(hostname: str, settings: CollectSettings) -> Watched:
    """The machine we run on as a target, under the name that a node_exporter on it would have."""
    labels = labels_from({"job": JOB, "instance": f"{hostname}:9100"})
    duration_ms = round(1000 * settings.host_interval)
    return Watched(
        Target(JOB, f"{hostname}:9100", "/metrics"),
        JOB,
        f"http://{settings.node_exporter}/metrics",
        labels,
        labels,
        duration_ms,
        min(duration_ms, 10_000),
    )


class HostWatcher:
    """Two feeds of one instance, of which one is there at a time."""

    def __init__(
        self,
        watched: Watched,
        session: aiohttp.ClientSession,
        outlets: tuple[Outlet, Outlet],
        clock: Clock,
        settings: CollectSettings,
    ) -> None:
        """`outlets`: for node_exporter's samples, and for those read here."""
        self.status = Status(watched)
        self.parser = TextParser()
        self._watched = watched
        self._session = session
        self._clock = clock
        self._max_bytes = settings.max_body_bytes
        naming = SeriesNaming(watched.labels)
        own = Target(watched.target.job, watched.target.instance, BUILT_IN)
        self._exporter = (FrameBuilder(watched.target, naming), outlets[0])
        self._built_in = (FrameBuilder(own, naming), outlets[1])

    async def run(self) -> None:
        """Look at each due time until cancelled."""
        pause = interval_ms(self._watched.interval_ms, self._clock.speed)
        while True:
            due_ms = next_due_ms(self._watched.target, pause, self._clock.now_ms())
            await self._clock.sleep_until(due_ms / 1000)
            await self.look()

    async def look(self) -> None:
        """One look at the machine."""
        time_ms = self._clock.now_ms()
        began = time.perf_counter()
        with self._exporter[1].holding(self._watched.target, time_ms):
            now, other = self._exporter, self._built_in
            readings = await self._ask_exporter()
            if readings is None:
                now, other = other, now
                readings = read_host(snapshot(self._clock.now()))
            duration_s = time.perf_counter() - began
            builder, outlet = other
            outlet.put(builder.target, builder.end(time_ms))
            builder, outlet = now
            built = builder.scrape(readings, time_ms, duration_s)
            outlet.put(builder.target, built, len(readings.series))
        self.status.succeeded(time_ms, duration_s)

    def end(self) -> None:
        """The machine is no longer watched: its series end."""
        for builder, outlet in (self._exporter, self._built_in):
            outlet.end(builder.target, builder.end(self._clock.now_ms()))

    async def _ask_exporter(self) -> Readings | None:
        """What node_exporter says; None if it doesn't answer."""
        timeout_s = self._watched.timeout_ms / 1000
        headers = {"Accept": ACCEPT}
        try:
            body = await fetch(
                self._session, self._watched.url, timeout_s, self._max_bytes, headers=headers
            )
            return self.parser.parse(body)
        except (FetchError, ParseError):
            return None


_MEMORY = {
    "total": "MemTotal",
    "free": "MemFree",
    "available": "MemAvailable",
    "buffers": "Buffers",
    "cached": "Cached",
}
_CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def snapshot(now: float) -> HostSnapshot:
    """What this machine says about itself; `now` is the event time it is taken for."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    meminfo = {
        name: float(getattr(memory, field))
        for field, name in _MEMORY.items()
        if hasattr(memory, field)
    }
    meminfo |= {"SwapTotal": float(swap.total), "SwapFree": float(swap.free)}
    return HostSnapshot(
        cpu_seconds=tuple(
            {mode: float(getattr(cpu, mode)) for mode in _CPU_MODES if hasattr(cpu, mode)}
            for cpu in psutil.cpu_times(percpu=True)
        ),
        memory_bytes=meminfo,
        filesystems=tuple(_filesystems()),
        disks=tuple(_disks()),
        interfaces=tuple(_interfaces()),
        load=psutil.getloadavg(),
        boot_time=psutil.boot_time(),
        time=now,
    )


def _filesystems() -> list[Filesystem]:
    found = []
    for partition in psutil.disk_partitions(all=False):
        try:
            usage = psutil.disk_usage(partition.mountpoint)
        except OSError:  # unmounted a moment ago, or not for us to see
            continue
        found.append(
            Filesystem(
                partition.device,
                partition.fstype,
                partition.mountpoint,
                float(usage.total),
                float(usage.total - usage.used),
                float(usage.free),
                "ro" in partition.opts.split(","),
            )
        )
    return found


def _disks() -> list[Disk]:
    counters = psutil.disk_io_counters(perdisk=True) or {}
    return [
        Disk(
            device,
            io.read_count,
            io.write_count,
            io.read_bytes,
            io.write_bytes,
            io.read_time / 1000,
            io.write_time / 1000,
            getattr(io, "busy_time", 0) / 1000,
        )
        for device, io in counters.items()
    ]


def _interfaces() -> list[Interface]:
    states = psutil.net_if_stats()
    return [
        Interface(
            device,
            io.bytes_recv,
            io.bytes_sent,
            io.packets_recv,
            io.packets_sent,
            io.errin,
            io.errout,
            io.dropin,
            io.dropout,
            device in states and states[device].isup,
        )
        for device, io in psutil.net_io_counters(pernic=True).items()
    ]
