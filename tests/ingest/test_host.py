"""This machine's readings have node_exporter's names and labels."""

from pipeline.ingest.host import FAMILIES, Disk, Filesystem, HostSnapshot, Interface, read_host

SNAPSHOT = HostSnapshot(
    cpu_seconds=({"user": 10.5, "idle": 90.0}, {"user": 1.0, "idle": 99.0}),
    memory_bytes={"MemTotal": 8e9, "MemAvailable": 5e9},
    filesystems=(Filesystem("/dev/sda1", "ext4", "/", 100.0, 40.0, 30.0, False),),
    disks=(Disk("sda", 1, 2, 3, 4, 5, 6, 7),),
    interfaces=(Interface("eth0", 1, 2, 3, 4, 5, 6, 7, 8, True),),
    load=(0.5, 0.25, 0.125),
    boot_time=1000.0,
    time=2000.0,
)


def test_names_and_labels_are_node_exporter_s() -> None:
    readings = read_host(SNAPSHOT)
    values = {
        series.labels: value
        for series, value in zip(readings.series, readings.values.tolist(), strict=True)
    }

    cpu = (("__name__", "node_cpu_seconds_total"), ("cpu", "1"), ("mode", "idle"))
    assert values[cpu] == 99.0
    root = (
        ("__name__", "node_filesystem_avail_bytes"),
        ("device", "/dev/sda1"),
        ("fstype", "ext4"),
        ("mountpoint", "/"),
    )
    assert values[root] == 30.0
    assert values[(("__name__", "node_disk_io_time_seconds_total"), ("device", "sda"))] == 7
    assert values[(("__name__", "node_network_transmit_drop_total"), ("device", "eth0"))] == 8
    assert values[(("__name__", "node_load15"),)] == 0.125
    assert values[(("__name__", "node_memory_MemAvailable_bytes"),)] == 5e9
    assert values[(("__name__", "node_time_seconds"),)] == 2000.0
    assert len(values) == len(readings.series)


def test_every_series_is_described_and_typed() -> None:
    for series in read_host(SNAPSHOT).series:
        assert series.kind == FAMILIES[series.name].kind
        assert (series.kind == "counter") == series.name.endswith("_total")
