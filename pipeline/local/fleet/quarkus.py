"""`/q/metrics` of a node, as Quarkus with Micrometer writes it (PLATFORM.md, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache

import msgspec
from numpy import floor, maximum

from pipeline.local.fleet.model import (
    EDEN_BYTES,
    GENESIS_S,
    MAJOR_GC_BYTES,
    MAJOR_GC_WORK,
    MINOR_GC_PER_S,
    OLD_GEN_BYTES,
    VERSION,
    Node,
    NodeState,
    NodeType,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Value = Callable[[NodeState], float]


class _Family(msgspec.Struct, frozen=True):
    name: str
    kind: str
    help: str
    rows: tuple[tuple[str, Value], ...]
    """What follows `name` in a sample's line (suffix and labels), and its value."""


def render(state: NodeState) -> bytes:
    """The exposition of a node; every counter in it only grows."""
    text, values = _layout(state.node)
    return (text % tuple([java_double(value(state)) for value in values])).encode()


def numbers(state: NodeState) -> list[float]:
    """Every sample of `render`, in its order; of a state of many instants arrays of them."""
    return [value(state) for value in _layout(state.node)[1]]


def java_double(value: float) -> str:
    """`value` as Java's Double.toString writes it: with an exponent outside 1e-3 to 1e7.

    >>> java_double(1841), java_double(1073741824), java_double(0.00045), java_double(-1)
    ('1841.0', '1.073741824E9', '4.5E-4', '-1.0')
    """
    value = float(value)
    if value == 0.0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    if value.is_integer() and abs(value) < 2**53:  # as most are: quicker than by way of Decimal
        text, exponent = str(abs(int(value))), 0
    else:
        _, digits, power = Decimal(repr(value)).as_tuple()
        assert isinstance(power, int), f"a sample is a finite number, got {value}"
        text, exponent = "".join(map(str, digits)), power
    exponent += len(text) - 1
    text = text.rstrip("0")
    return f"{'-' if value < 0 else ''}{text[0]}.{text[1:] or '0'}E{exponent}"


@cache
def _layout(node: Node) -> tuple[str, tuple[Value, ...]]:
    """The text with a place for each value, and the values in that order."""
    lines, values = [], []
    for family in _families(node):
        lines.append(f"# HELP {family.name} {family.help}".rstrip())
        lines.append(f"# TYPE {family.name} {family.kind}")
        for tail, value in family.rows:
            lines.append(f"{family.name}{tail}".replace("%", "%%") + " %s")
            values.append(value)
    return "\n".join(lines) + "\n", tuple(values)


_URIS: dict[NodeType, tuple[tuple[str, str, float, float], ...]] = {
    "validator": (("POST", "/api/v11/consensus/vote", 0.5, 0.004),),
    "business": (("POST", "/api/v11/contracts/execute", 0.4, 0.018),),
    "channel": (("POST", "/api/v11/channels/{id}/messages", 0.5, 0.006),),
    "api": (
        ("GET", "/api/v11/nodes/{id}", 0.2, 0.005),
        ("POST", "/api/v11/transactions", 0.3, 0.012),
    ),
    "mobile": (("GET", "/api/v11/mobile/stats", 0.3, 0.007),),
}
"""Per type: method, path, share of the requests, mean duration in seconds."""
_COMMON_URIS = (
    ("GET", "/api/v11/stats", 0.2, 0.011),
    ("GET", "/api/v11/live/network", 0.15, 0.008),
    ("GET", "/api/v11/live/validators", 0.05, 0.009),
    ("GET", "/api/v11/nodes", 0.05, 0.014),
    ("GET", "/q/health", 0.02, 0.003),
)


def _families(node: Node) -> Iterator[_Family]:
    yield _gauge(
        "simulated_build_info",
        "This is a simulated node",
        _labelled(version=VERSION, simulated="true"),
        _fixed(1),
    )
    yield from _http(node)
    yield from _memory()
    yield from _gc()
    yield from _threads()
    yield from _process(node)
    yield from _pools()
    yield from _servers(node)


def _http(node: Node) -> Iterator[_Family]:
    rate = node.requests_per_s
    totals: list[tuple[str, Value]] = []
    longest: list[tuple[str, Value]] = []
    for method, uri, share, mean in (*_COMMON_URIS, *_URIS[node.node_type]):
        of_uri = rate * share
        labels = _request(method, "SUCCESS", "200", uri)
        totals.append(("_count" + labels, _count(of_uri, lambda s: s.work - s.errors)))
        totals.append(("_sum" + labels, _times(of_uri * mean, _busy)))
        longest.append((labels, _times(mean / 0.006, lambda s: s.p99)))
        if not uri.startswith("/q/"):
            labels = _request(method, "SERVER_ERROR", "500", uri)
            totals.append(("_count" + labels, _count(of_uri, lambda s: s.errors)))
            totals.append(("_sum" + labels, _times(of_uri * mean * 2, lambda s: s.errors)))
    labels = _request("GET", "CLIENT_ERROR", "404", "NOT_FOUND")
    totals.append(("_count" + labels, _count(rate * 0.002, _work)))
    totals.append(("_sum" + labels, _times(rate * 0.000004, _work)))
    name, text = "http_server_requests_seconds", "HTTP server request processing time"
    yield _Family(name, "summary", text, tuple(totals))
    yield _Family(name + "_max", "gauge", text, tuple(longest))
    yield _gauge(
        "http_server_active_requests", "", _labelled(method="GET", url_scheme="http"),
        lambda s: s.active_requests,
    )  # fmt: skip


def _request(method: str, outcome: str, status: str, uri: str) -> str:
    return _labelled(method=method, outcome=outcome, status=status, uri=uri)


def _memory() -> Iterator[_Family]:
    mib = 2**20
    pools: tuple[tuple[str, str, Value, float, float], ...] = (
        ("heap", "G1 Eden Space", lambda s: s.eden, -1, 640 * mib),
        ("heap", "G1 Old Gen", lambda s: s.old_gen, OLD_GEN_BYTES, 2048 * mib),
        ("heap", "G1 Survivor Space", lambda s: s.survivor, -1, 48 * mib),
        ("nonheap", "Metaspace", lambda s: s.metaspace, -1, 160 * mib),
        ("nonheap", "Compressed Class Space", _share(0.12), 1024 * mib, 24 * mib),
        ("nonheap", "CodeCache", _share(0.4), 240 * mib, 72 * mib),
    )  # fmt: skip
    used, most, committed = [], [], []
    for area, pool, value, largest, held in pools:
        labels = _labelled(area=area, id=pool)
        used.append((labels, value))
        most.append((labels, _fixed(largest)))
        committed.append((labels, _fixed(held)))
    text = "The amount of memory in bytes that is committed for the Java virtual machine to use"
    yield _Family("jvm_memory_used_bytes", "gauge", "The amount of used memory", tuple(used))
    yield _Family("jvm_memory_committed_bytes", "gauge", text, tuple(committed))
    text = "The maximum amount of memory in bytes that can be used for memory management"
    yield _Family("jvm_memory_max_bytes", "gauge", text, tuple(most))
    yield _gauge(
        "jvm_memory_usage_after_gc",
        "The percentage of long-lived heap pool used after the last GC event",
        _labelled(area="heap", pool="long-lived"), lambda s: s.old_gen / OLD_GEN_BYTES,
    )  # fmt: skip


def _share(of_metaspace: float) -> Value:
    return lambda state: floor(state.metaspace * of_metaspace)


def _gc() -> Iterator[_Family]:
    labels = _labelled(action="end of minor GC", cause="G1 Evacuation Pause")
    count = _count(MINOR_GC_PER_S)
    yield _Family(
        "jvm_gc_pause_seconds", "summary", "Time spent in GC pause",
        (("_count" + labels, count), ("_sum" + labels, _times(MINOR_GC_PER_S * 0.009, _busy))),
    )  # fmt: skip
    yield _gauge(
        "jvm_gc_pause_seconds_max", "Time spent in GC pause", labels, lambda s: 4 * s.gc_pause
    )
    yield _gauge(
        "jvm_gc_overhead", "Share of CPU time used by GC", "", lambda s: MINOR_GC_PER_S * s.gc_pause
    )
    yield _counter(
        "jvm_gc_memory_allocated_bytes_total", "Increase in the size of the young heap memory pool",
        _count(MINOR_GC_PER_S * EDEN_BYTES),
    )  # fmt: skip
    yield _counter(
        "jvm_gc_memory_promoted_bytes_total",
        "Increases in the size of the old generation memory pool",
        _count(MAJOR_GC_BYTES / MAJOR_GC_WORK),
    )  # fmt: skip


def _threads() -> Iterator[_Family]:
    yield _gauge(
        "jvm_threads_live_threads",
        "The current number of live threads including both daemon and non-daemon threads", "",
        lambda s: s.threads,
    )  # fmt: skip
    yield _gauge(
        "jvm_threads_daemon_threads",
        "The current number of live daemon threads",
        "",
        lambda s: s.threads - 24,
    )
    states: dict[str, Value] = {
        "runnable": lambda s: floor(s.threads * 0.3),
        "blocked": _fixed(0),
        "waiting": lambda s: s.threads - floor(s.threads * 0.3) - floor(s.threads * 0.25),
        "timed-waiting": lambda s: floor(s.threads * 0.25),
    }
    yield _Family(
        "jvm_threads_states_threads", "gauge", "The current number of threads",
        tuple((_labelled(state=state), value) for state, value in states.items()),
    )  # fmt: skip
    yield _gauge(
        "jvm_classes_loaded_classes",
        "The number of classes that are currently loaded",
        "",
        _fixed(21_874),
    )


def _process(node: Node) -> Iterator[_Family]:
    yield _gauge(
        "process_cpu_usage",
        'The "recent cpu usage" for the Java Virtual Machine process',
        "",
        lambda s: s.cpu,
    )
    yield _gauge(
        "system_cpu_usage", 'The "recent cpu usage" of the system the application is running in',
        "", lambda s: s.system_cpu,
    )  # fmt: skip
    yield _gauge("system_cpu_count", "The number of processors available", "", _fixed(node.cores))
    yield _gauge(
        "system_load_average_1m",
        "Runnable entities averaged over one minute",
        "",
        lambda s: s.load_average,
    )
    yield _counter(
        "process_cpu_time_ns_total", "The cpu time used by the Java Virtual Machine process",
        _count(node.cores * 0.3e9),
    )  # fmt: skip
    yield _gauge(
        "process_uptime_seconds", "The uptime of the Java virtual machine", "", lambda s: s.uptime
    )
    yield _gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch.",
        "",
        _fixed(GENESIS_S),
    )
    yield _gauge(
        "process_files_open_files",
        "The open file descriptor count",
        "",
        lambda s: 300 + s.connections,
    )
    yield _gauge(
        "process_files_max_files", "The maximum file descriptor count", "", _fixed(1_048_576)
    )


def _pools() -> Iterator[_Family]:
    database = _labelled(datasource="default")
    yield _gauge(
        "agroal_active_count",
        "Number of active connections. "
        "These connections are in use and not available to be acquired.",
        database, lambda s: s.pool_active,
    )  # fmt: skip
    yield _gauge(
        "agroal_available_count",
        "Number of idle connections in the pool, available to be acquired.",
        database, lambda s: 20 - s.pool_active,
    )  # fmt: skip
    yield _gauge(
        "agroal_awaiting_count",
        "Approximate number of threads blocked, waiting to acquire a connection.",
        database, _fixed(0),
    )  # fmt: skip
    yield _gauge(
        "agroal_max_used_count",
        "Maximum number of connections active simultaneously.",
        database,
        _fixed(20),
    )
    yield _counter(
        "agroal_acquire_count_total", "Number of times an acquire operation succeeded.",
        _count(9), database,
    )  # fmt: skip
    pool = _labelled(pool_name="vert.x-worker-thread", pool_type="worker")
    yield _gauge(
        "worker_pool_queue_size", "Number of pending elements in the waiting queue", pool,
        lambda s: floor(s.active_requests / 3),
    )  # fmt: skip
    yield _gauge(
        "worker_pool_active",
        "The number of resources from the pool currently used",
        pool,
        lambda s: s.active_requests,
    )
    yield _gauge(
        "worker_pool_idle",
        "The number of resources from the pool currently available",
        pool,
        lambda s: maximum(0.0, 200 - s.active_requests),
    )
    yield _counter(
        "worker_pool_completed_total", "Number of times resources from the pool have been acquired",
        _count(30), pool,
    )  # fmt: skip


def _servers(node: Node) -> Iterator[_Family]:
    method = _labelled(
        method="SubmitTransaction",
        methodType="UNARY",
        service="io.aurigraph.v11.proto.TransactionService",
    )
    for direction, what in (
        ("requests_received", "requests received"),
        ("responses_sent", "responses sent"),
    ):
        yield _counter(
            f"grpc_server_{direction}_messages_total",
            f"The total number of {what}",
            _count(40 * node.requests_per_s), method,
        )  # fmt: skip
    address = _labelled(local="0.0.0.0:9003")
    yield _counter(
        "http_server_bytes_read_bytes_total",
        "Number of bytes received by the server",
        _count(42e6),
        address,
    )
    yield _counter(
        "http_server_bytes_written_bytes_total",
        "Number of bytes sent by the server",
        _count(39e6),
        address,
    )
    yield _gauge(
        "http_server_active_connections",
        "The number of connections",
        address,
        lambda s: s.connections,
    )
    client = _labelled(client_name="default")
    yield _counter("redis_commands_total", "The number of commands", _count(55), client)
    yield _gauge(
        "netty_allocator_memory_used", "The memory used by the allocator",
        _labelled(allocator_type="PooledByteBufAllocator", memory_type="direct"),
        lambda s: floor(33_554_432 + 65_536 * s.connections),
    )  # fmt: skip


def _gauge(name: str, text: str, labels: str, value: Value) -> _Family:
    return _Family(name, "gauge", text, ((labels, value),))


def _counter(name: str, text: str, value: Value, labels: str = "") -> _Family:
    return _Family(name, "counter", text, ((labels, value),))


def _fixed(value: float) -> Value:
    return lambda _: value


def _work(state: NodeState) -> float:
    return state.work


def _busy(state: NodeState) -> float:
    return state.busy


def _times(factor: float, value: Value) -> Value:
    return lambda state: factor * value(state)


def _count(rate: float, value: Value = _work) -> Value:
    """What happens `rate` times a second at load 1, in whole numbers."""
    return lambda state: floor(rate * value(state))


def _labelled(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
