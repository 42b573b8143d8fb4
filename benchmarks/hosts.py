"""A fleet of machines as node_exporter shows them, in numbers: dictionaries and seeded frames.

Every target has 500 series of its own labels; values differ for each series and each second, and
nothing in them breaks a rule of the public host rules unless it is planted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from pipeline.model import FloatArray, Frame, Series, SeriesDictionary, Target, labels_from

SERIES = 500
JOB = "node"
UNITS = tuple(f"app-{i:02d}.service" for i in range(20))
_GIB = float(1 << 30)


class _Column:
    """One series: its name and labels, and how its values run."""

    def __init__(
        self, metric: str, level: float, /, *, rate: float = 0.0, noise: float = 0.0, **labels: str
    ) -> None:
        self.name, self.labels = metric, labels
        self.level, self.rate, self.noise = level, rate, noise
        self.kind = "counter" if rate or metric.endswith("_total") else "gauge"


def _columns() -> list[_Column]:
    c = _Column
    modes = {
        "idle": 0.7,
        "user": 0.15,
        "system": 0.08,
        "iowait": 0.01,
        "steal": 0.001,
        "irq": 0.002,
        "softirq": 0.01,
        "nice": 0.001,
    }
    columns = [
        c("node_cpu_seconds_total", 1e6, rate=share, cpu=str(cpu), mode=mode)
        for cpu, (mode, share) in product(range(8), modes.items())
    ]
    for i in range(6):
        labels = {"device": f"/dev/vd{i}", "fstype": "ext4", "mountpoint": f"/mnt/{i}"}
        for name, level, noise in (
            ("avail_bytes", 60 * _GIB, 1e6),
            ("free_bytes", 64 * _GIB, 1e6),
            ("size_bytes", 100 * _GIB, 0),
            ("files", 6e6, 0),
            ("files_free", 5e6, 100),
            ("readonly", 0, 0),
            ("device_error", 0, 0),
        ):
            columns.append(c(f"node_filesystem_{name}", level, noise=noise, **labels))
    for i in range(4):
        for name, rate in (
            ("read_time_seconds_total", 0.001),
            ("reads_completed_total", 50.0),
            ("write_time_seconds_total", 0.002),
            ("writes_completed_total", 80.0),
            ("io_time_seconds_total", 0.1),
            ("read_bytes_total", 1e6),
            ("written_bytes_total", 2e6),
        ):
            columns.append(c(f"node_disk_{name}", 1e6, rate=rate, device=f"vd{i}"))
        for name, rate in (
            ("receive_bytes_total", 1e5),
            ("transmit_bytes_total", 1e5),
            ("receive_errs_total", 1e-5),
            ("transmit_errs_total", 1e-5),
            ("receive_packets_total", 500.0),
            ("transmit_packets_total", 500.0),
        ):
            columns.append(c(f"node_network_{name}", 1e6, rate=rate, device=f"eth{i}"))
        columns.append(c("node_network_speed_bytes", 1.25e9, device=f"eth{i}"))
    for name, level in (
        ("MemTotal", 64),
        ("MemAvailable", 40),
        ("MemFree", 20),
        ("Buffers", 1),
        ("Cached", 15),
        ("SwapTotal", 8),
        ("SwapFree", 7.9),
    ):
        columns.append(
            c(f"node_memory_{name}_bytes", level * _GIB, noise=0 if "Total" in name else 1e7)
        )
    for name, rate in (("pgmajfault", 0.1), ("oom_kill", 0.0), ("pgfault", 1000.0)):
        columns.append(c(f"node_vmstat_{name}", 1e5, rate=rate))
    columns += [
        c("node_context_switches_total", 1e9, rate=20000.0),
        c("node_intr_total", 1e9, rate=9000.0),
    ]
    columns += [
        c("node_load1", 2, noise=0.2),
        c("node_load5", 2, noise=0.1),
        c("node_load15", 2, noise=0.05),
    ]
    for unit, state in product(
        UNITS, ("active", "activating", "deactivating", "failed", "inactive")
    ):
        columns.append(
            c("node_systemd_unit_state", float(state == "active"), name=unit, state=state)
        )
    for chip in range(4):
        columns.append(
            c("node_hwmon_temp_celsius", 45, noise=0.5, chip=f"chip{chip}", sensor="temp1")
        )
        columns.append(c("node_hwmon_temp_max_celsius", 85, chip=f"chip{chip}", sensor="temp1"))
        columns.append(
            c("node_hwmon_temp_crit_alarm_celsius", 0, chip=f"chip{chip}", sensor="temp1")
        )
    columns += [
        c("node_md_disks", 2, device="md0", state="active"),
        c("node_md_disks", 0, device="md0", state="failed"),
        c("node_md_disks_required", 2, device="md0"),
        c("node_edac_correctable_errors_total", 0, controller="0"),
        c("node_edac_uncorrectable_errors_total", 0, controller="0"),
        c("node_bonding_active", 2, master="bond0"),
        c("node_bonding_slaves", 2, master="bond0"),
        c("node_nf_conntrack_entries", 1000, noise=20),
        c("node_nf_conntrack_entries_limit", 262144),
        c("node_timex_offset_seconds", 0.0001, noise=0.00001),
        c("node_timex_sync_status", 1),
        c("node_timex_maxerror_seconds", 0.01, noise=0.001),
        c("node_uname_info", 1, release="6.1.0"),
    ]
    filler = SERIES - len(columns)
    columns += [
        c("application_queue_depth", 100.0 + i, noise=5, queue=f"q{i:03d}") for i in range(filler)
    ]
    return columns


class Hosts:
    """`targets` machines; `frames(seconds)` gives their frames, second by second."""

    def __init__(self, targets: int, seed: int = 7) -> None:
        self.columns = _columns()
        assert len(self.columns) == SERIES
        self.dictionaries = [self._dictionary(i) for i in range(targets)]
        self._rng = np.random.default_rng(seed)
        scale = self._rng.uniform(0.9, 1.1, (targets, 1))
        self._level = np.array([column.level for column in self.columns]) * np.ones((targets, 1))
        self._rate = np.array([column.rate for column in self.columns]) * scale
        self._noise = np.array([column.noise for column in self.columns]) * scale

    def column(self, metric: str, /, **labels: str) -> int:
        """The index of a series."""
        return next(
            i
            for i, c in enumerate(self.columns)
            if c.name == metric and c.labels.items() >= labels.items()
        )

    def next_second(self) -> FloatArray:
        """The values of all targets one second on, shape (targets, 500)."""
        draw = self._rng.standard_normal(self._level.shape)
        self._level += self._rate * (1 + 0.1 * np.clip(draw, -3, 3))
        return self._level + self._noise * draw

    def frame(self, target: int, time_ms: int, values: FloatArray) -> Frame:
        dictionary = self.dictionaries[target]
        return Frame(dictionary.target.id, dictionary.id, time_ms, values)

    def seconds(self, count: int) -> Iterator[FloatArray]:
        return (self.next_second() for _ in range(count))

    def _dictionary(self, i: int) -> SeriesDictionary:
        instance = f"host-{i:03d}:9100"
        common = {"job": JOB, "instance": instance}
        series = tuple(
            Series(labels_from({**common, **column.labels, "__name__": column.name}), column.kind)
            for column in self.columns
        )
        return SeriesDictionary(Target(JOB, instance, "/metrics"), series)
