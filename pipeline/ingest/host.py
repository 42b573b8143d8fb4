"""A machine's state to readings, with the names and labels of Prometheus' node_exporter.

References
----------
https://github.com/prometheus/node_exporter (collector/*_linux.go), version 1.5.
"""

from __future__ import annotations

import msgspec
import numpy as np

from pipeline.ingest.readings import Family, Readings
from pipeline.model import Labels, Series, labels_from


class Filesystem(msgspec.Struct, frozen=True):
    """A mounted filesystem; sizes in bytes. `available` is what an ordinary user can still take."""

    device: str
    fstype: str
    mountpoint: str
    size: float
    free: float
    available: float
    read_only: bool


class Disk(msgspec.Struct, frozen=True):
    """Totals of a block device since boot."""

    device: str
    reads: float
    writes: float
    read_bytes: float
    written_bytes: float
    read_seconds: float
    write_seconds: float
    io_seconds: float


class Interface(msgspec.Struct, frozen=True):
    """Totals of a network interface since boot."""

    device: str
    received_bytes: float
    sent_bytes: float
    received_packets: float
    sent_packets: float
    receive_errors: float
    send_errors: float
    receive_drops: float
    send_drops: float
    up: bool


class HostSnapshot(msgspec.Struct, frozen=True):
    """What a machine says about itself at one instant."""

    cpu_seconds: tuple[dict[str, float], ...]
    """For each CPU, seconds since boot by mode."""
    memory_bytes: dict[str, float]
    """By the name that /proc/meminfo has."""
    filesystems: tuple[Filesystem, ...]
    disks: tuple[Disk, ...]
    interfaces: tuple[Interface, ...]
    load: tuple[float, float, float]
    boot_time: float
    time: float


FAMILIES = {
    "node_cpu_seconds_total": Family("counter", "Seconds the CPUs spent in each mode."),
    "node_load1": Family("gauge", "1m load average."),
    "node_load5": Family("gauge", "5m load average."),
    "node_load15": Family("gauge", "15m load average."),
    "node_boot_time_seconds": Family("gauge", "Node boot time, in unixtime."),
    "node_time_seconds": Family("gauge", "System time in seconds since epoch (1970)."),
    "node_memory_MemTotal_bytes": Family("gauge", "Memory information field MemTotal_bytes."),
    "node_memory_MemFree_bytes": Family("gauge", "Memory information field MemFree_bytes."),
    "node_memory_MemAvailable_bytes": Family(
        "gauge", "Memory information field MemAvailable_bytes."
    ),
    "node_memory_Buffers_bytes": Family("gauge", "Memory information field Buffers_bytes."),
    "node_memory_Cached_bytes": Family("gauge", "Memory information field Cached_bytes."),
    "node_memory_SwapTotal_bytes": Family("gauge", "Memory information field SwapTotal_bytes."),
    "node_memory_SwapFree_bytes": Family("gauge", "Memory information field SwapFree_bytes."),
    "node_filesystem_size_bytes": Family("gauge", "Filesystem size in bytes."),
    "node_filesystem_free_bytes": Family("gauge", "Filesystem free space in bytes."),
    "node_filesystem_avail_bytes": Family(
        "gauge", "Filesystem space available to non-root users in bytes."
    ),
    "node_filesystem_readonly": Family("gauge", "Filesystem read-only status."),
    "node_disk_reads_completed_total": Family(
        "counter", "The total number of reads completed successfully."
    ),
    "node_disk_writes_completed_total": Family(
        "counter", "The total number of writes completed successfully."
    ),
    "node_disk_read_bytes_total": Family("counter", "The total number of bytes read successfully."),
    "node_disk_written_bytes_total": Family(
        "counter", "The total number of bytes written successfully."
    ),
    "node_disk_read_time_seconds_total": Family(
        "counter", "The total number of seconds spent by all reads."
    ),
    "node_disk_write_time_seconds_total": Family(
        "counter", "This is the total number of seconds spent by all writes."
    ),
    "node_disk_io_time_seconds_total": Family("counter", "Total seconds spent doing I/Os."),
    "node_network_receive_bytes_total": Family("counter", "Bytes received."),
    "node_network_transmit_bytes_total": Family("counter", "Bytes sent."),
    "node_network_receive_packets_total": Family("counter", "Packets received."),
    "node_network_transmit_packets_total": Family("counter", "Packets sent."),
    "node_network_receive_errs_total": Family("counter", "Receive errors."),
    "node_network_transmit_errs_total": Family("counter", "Transmit errors."),
    "node_network_receive_drop_total": Family("counter", "Packets dropped on receipt."),
    "node_network_transmit_drop_total": Family("counter", "Packets dropped on sending."),
    "node_network_up": Family("gauge", "1 if the interface is up."),
}


def read_host(snapshot: HostSnapshot) -> Readings:
    """Everything in `snapshot`, under node_exporter's names."""
    samples: list[tuple[str, Labels, float]] = [
        ("node_boot_time_seconds", (), snapshot.boot_time),
        ("node_time_seconds", (), snapshot.time),
    ]
    for minutes, value in zip(("1", "5", "15"), snapshot.load, strict=True):
        samples.append((f"node_load{minutes}", (), value))
    for field, value in snapshot.memory_bytes.items():
        samples.append((f"node_memory_{field}_bytes", (), value))
    for cpu, modes in enumerate(snapshot.cpu_seconds):
        for mode, value in modes.items():
            labels = (("cpu", str(cpu)), ("mode", mode))
            samples.append(("node_cpu_seconds_total", labels, value))
    for filesystem in snapshot.filesystems:
        samples += _filesystem(filesystem)
    for disk in snapshot.disks:
        samples += _disk(disk)
    for interface in snapshot.interfaces:
        samples += _interface(interface)
    series = tuple(
        Series(labels_from({"__name__": name, **dict(labels)}), FAMILIES[name].kind)
        for name, labels, _ in samples
    )
    return Readings(series, np.array([value for _, _, value in samples]))


def _filesystem(filesystem: Filesystem) -> list[tuple[str, Labels, float]]:
    labels = (
        ("device", filesystem.device),
        ("fstype", filesystem.fstype),
        ("mountpoint", filesystem.mountpoint),
    )
    values = {
        "size_bytes": filesystem.size,
        "free_bytes": filesystem.free,
        "avail_bytes": filesystem.available,
        "readonly": float(filesystem.read_only),
    }
    return [(f"node_filesystem_{name}", labels, value) for name, value in values.items()]


def _disk(disk: Disk) -> list[tuple[str, Labels, float]]:
    values = {
        "reads_completed": disk.reads,
        "writes_completed": disk.writes,
        "read_bytes": disk.read_bytes,
        "written_bytes": disk.written_bytes,
        "read_time_seconds": disk.read_seconds,
        "write_time_seconds": disk.write_seconds,
        "io_time_seconds": disk.io_seconds,
    }
    labels = (("device", disk.device),)
    return [(f"node_disk_{name}_total", labels, value) for name, value in values.items()]


def _interface(interface: Interface) -> list[tuple[str, Labels, float]]:
    values = {
        "receive_bytes_total": interface.received_bytes,
        "transmit_bytes_total": interface.sent_bytes,
        "receive_packets_total": interface.received_packets,
        "transmit_packets_total": interface.sent_packets,
        "receive_errs_total": interface.receive_errors,
        "transmit_errs_total": interface.send_errors,
        "receive_drop_total": interface.receive_drops,
        "transmit_drop_total": interface.send_drops,
        "up": float(interface.up),
    }
    labels = (("device", interface.device),)
    return [(f"node_network_{name}", labels, value) for name, value in values.items()]
