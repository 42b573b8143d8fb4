"""Where the numbers stand in the ledger platform's messages, and what they are called here.

Names have base units (seconds, bytes, ratios). A name is given by one feed only,
so that an instance never has one series from two targets.
"""

from __future__ import annotations

from pipeline.ingest.ledger_shapes import GB, MB, MIB, MILLI, PERCENT, Field, Message


def _quantiles(path: str, name: str, text: str) -> tuple[Field, ...]:
    """The three fields of a summary in ms; `path` has a % where 50, 95 or 99 stands."""
    return tuple(
        Field(
            path.replace("%", percent),
            name,
            text,
            "summary",
            labels=(("quantile", quantile),),
            per=MILLI,
        )
        for percent, quantile in (("50", "0.5"), ("95", "0.95"), ("99", "0.99"))
    )


def _validators(key: str, state: str) -> Field:
    labels = (("state", state),)
    return Field(key, "ledger_validators", "Validators by state.", labels=labels)


METRICS = Message(
    (
        Field("tps", "ledger_node_tps", "Transactions a second that the node reports."),
        Field("cpu", "ledger_node_cpu_percent", "Load average over cores, in percent."),
        Field("memory", "ledger_node_memory_bytes", "Memory in use.", times=MIB),
        Field("connections", "ledger_node_connections", "Open connections."),
        Field("errorRate", "ledger_node_error_ratio", "Share of requests that failed."),
    )
)

LIVE = {
    "tps_update": Message(
        (
            Field("currentTPS", "ledger_network_tps", "Transactions a second of the network."),
            Field("tps", "ledger_network_tps", "Transactions a second of the network."),
            Field("peakTPS", "ledger_network_peak_tps", "Highest transactions a second."),
            Field("averageTPS", "ledger_network_average_tps", "Mean transactions a second."),
            Field("latency", "ledger_network_latency_seconds", "Network latency.", per=MILLI),
        )
    ),
    "block_update": Message(
        (
            Field("blockHeight", "ledger_block_height", "Height of the last block."),
            Field("blockTime", "ledger_block_time_seconds", "Time of a block.", per=MILLI),
            Field("transactions", "ledger_block_transactions", "Transactions of the last block."),
        )
    ),
    "network_update": Message(
        (
            Field("activeNodes", "ledger_network_active_nodes", "Nodes that take part."),
            Field("totalNodes", "ledger_network_total_nodes", "Nodes that are known."),
            Field("networkHealth", "ledger_network_healthy", "1 if healthy.", yes="healthy"),
            Field(
                "avgLatency",
                "ledger_network_average_latency_seconds",
                "Mean latency between nodes.",
                per=MILLI,
            ),
        )
    ),
    "validator_update": Message(
        (
            _validators("totalValidators", "total"),
            _validators("activeValidators", "active"),
            _validators("inactiveValidators", "inactive"),
            _validators("jailedValidators", "jailed"),
        )
    ),
}

CHANNELS = {
    "channel_update": Message(
        (
            Field("tps", "ledger_channel_tps", "Transactions a second of the channel."),
            Field(
                "totalTransactions",
                "ledger_channel_transactions_total",
                "Transactions of the channel.",
                "counter",
            ),
            Field("blockHeight", "ledger_channel_block_height", "Height of the last block."),
            Field("latency", "ledger_channel_latency_seconds", "Latency.", per=MILLI),
            Field("throughput", "ledger_channel_throughput_tps", "Throughput of the channel."),
            Field("activeValidators", "ledger_channel_active_validators", "Active validators."),
            Field(
                "consensusHealth",
                "ledger_channel_consensus_health",
                "Health of the consensus, in percent.",
            ),
        ),
        "channel",
        "channelId",
    ),
    "block": Message(
        (
            Field("height", "ledger_channel_block_height", "Height of the last block."),
            Field(
                "transactionCount",
                "ledger_channel_block_transactions",
                "Transactions of the last block.",
            ),
            Field("size", "ledger_channel_block_size_bytes", "Size of the last block."),
        ),
        "channel",
        "channelId",
    ),
}

_TX, _NET, _CONS, _SYS = (
    "transactionMetrics.",
    "networkMetrics.",
    "consensusMetrics.",
    "systemPerformance.",
)
_DASHBOARD_METRICS = Message(
    (
        Field(_TX + "currentTPS", "ledger_transactions_per_second", "Transactions a second."),
        Field(
            _TX + "averageTPS",
            "ledger_transactions_per_second_average",
            "Mean transactions a second.",
        ),
        Field(
            _TX + "peakTPS",
            "ledger_transactions_per_second_peak",
            "Highest transactions a second.",
        ),
        Field(_TX + "totalTransactions", "ledger_transactions_total", "Transactions.", "counter"),
        Field(_TX + "pendingTransactions", "ledger_transactions_pending", "Transactions waiting."),
        Field(
            _TX + "confirmedTransactions",
            "ledger_transactions_confirmed_total",
            "Transactions confirmed.",
            "counter",
        ),
        Field(
            _TX + "failedTransactions",
            "ledger_transactions_failed_total",
            "Transactions failed.",
            "counter",
        ),
        Field(
            _TX + "successRate",
            "ledger_transactions_success_ratio",
            "Share of transactions that succeed.",
            per=PERCENT,
        ),
        Field(
            _TX + "averageFinalityMs",
            "ledger_finality_average_seconds",
            "Mean time until a transaction is final.",
            per=MILLI,
        ),
        *_quantiles(
            _TX + "p%FinalityMs",
            "ledger_finality_seconds",
            "Time until a transaction is final.",
        ),
        Field(
            _TX + "transactionsByType",
            "ledger_transactions_by_type_total",
            "Transactions by type.",
            "counter",
            each="type",
        ),
        Field(_NET + "totalNodes", "ledger_nodes", "Nodes.", labels=(("state", "total"),)),
        Field(_NET + "activeNodes", "ledger_nodes", "Nodes.", labels=(("state", "active"),)),
        Field(_NET + "inactiveNodes", "ledger_nodes", "Nodes.", labels=(("state", "inactive"),)),
        Field(_NET + "totalBlocks", "ledger_blocks_total", "Blocks.", "counter"),
        Field(
            _NET + "averageBlockTime",
            "ledger_block_average_seconds",
            "Mean time of a block.",
            per=MILLI,
        ),
        Field(
            _NET + "networkLatencyMs",
            "ledger_peer_latency_seconds",
            "Mean latency to peers.",
            per=MILLI,
        ),
        Field(_NET + "activeConnections", "ledger_peer_connections", "Connections to peers."),
        Field(
            _NET + "networkHealthScore",
            "ledger_network_health_ratio",
            "Health of the network, 1 is best.",
            per=PERCENT,
        ),
        Field(_CONS + "currentTerm", "ledger_consensus_term", "Term of the consensus."),
        Field(_CONS + "commitIndex", "ledger_consensus_commit_index", "Last committed entry."),
        Field(
            _CONS + "consensusLatencyMs",
            "ledger_consensus_latency_seconds",
            "Time of one agreement.",
            per=MILLI,
        ),
        Field(_CONS + "quorumSize", "ledger_consensus_quorum_size", "Nodes of a quorum."),
        Field(
            _CONS + "activeValidators",
            "ledger_consensus_active_validators",
            "Validators that take part.",
        ),
        Field(
            _CONS + "totalConsensusOps",
            "ledger_consensus_operations_total",
            "Agreements tried.",
            "counter",
        ),
        Field(
            _CONS + "failedConsensusOps",
            "ledger_consensus_operations_failed_total",
            "Agreements failed.",
            "counter",
        ),
        Field(
            _SYS + "cpuUtilization",
            "ledger_system_cpu_ratio",
            "Share of the processors in use.",
            per=PERCENT,
        ),
        Field(_SYS + "memoryUsedMB", "ledger_system_memory_used_bytes", "Memory used.", times=MIB),
        Field(_SYS + "memoryTotalMB", "ledger_system_memory_bytes", "Memory.", times=MIB),
        Field(_SYS + "diskUsedGB", "ledger_system_disk_used_bytes", "Disk used.", times=GB),
        Field(_SYS + "diskTotalGB", "ledger_system_disk_bytes", "Disk size.", times=GB),
        Field(_SYS + "activeThreads", "ledger_system_threads", "Threads."),
        Field(_SYS + "gcPauseMs", "ledger_system_gc_pause_seconds", "GC pause.", per=MILLI),
        Field(_SYS + "uptimeSeconds", "ledger_system_uptime_seconds", "Time since start."),
    )
)
_DASHBOARD_PERFORMANCE = Message(
    (
        Field(
            "latency.averageLatencyMs",
            "ledger_latency_average_seconds",
            "Mean latency of a transaction.",
            per=MILLI,
        ),
        *_quantiles("latency.p%LatencyMs", "ledger_latency_seconds", "Latency of a transaction."),
        Field(
            "latency.minLatencyMs",
            "ledger_latency_min_seconds",
            "Lowest latency of a transaction.",
            per=MILLI,
        ),
        Field(
            "latency.maxLatencyMs",
            "ledger_latency_max_seconds",
            "Highest latency of a transaction.",
            per=MILLI,
        ),
        Field("throughput.targetTPS", "ledger_target_tps", "Transactions a second aimed at."),
        Field("throughput.blocksPerSecond", "ledger_blocks_per_second", "Blocks a second."),
        Field("throughput.transactionsPerBlock", "ledger_block_size", "Transactions of a block."),
        Field("resources.systemLoad", "ledger_system_load", "Load average of a minute."),
        Field("resources.availableCPUs", "ledger_system_cpus", "Processors."),
        Field(
            "resources.networkInMBps",
            "ledger_system_receive_bytes_per_second",
            "Bytes received a second.",
            times=MB,
        ),
        Field(
            "resources.networkOutMBps",
            "ledger_system_transmit_bytes_per_second",
            "Bytes sent a second.",
            times=MB,
        ),
        Field("reliability.errorRate", "ledger_error_ratio", "Share of requests that failed."),
        Field("reliability.totalErrors", "ledger_errors_total", "Failed requests.", "counter"),
        Field("reliability.totalRequests", "ledger_requests_total", "Requests.", "counter"),
        Field("reliability.timeoutsCount", "ledger_timeouts_total", "Timeouts.", "counter"),
        Field("reliability.retriesCount", "ledger_retries_total", "Retries.", "counter"),
        Field(
            "storage.transactionCacheHitRate",
            "ledger_cache_hit_ratio",
            "Share of look-ups that the cache answers.",
            per=PERCENT,
        ),
        Field(
            "storage.dbActiveConnections",
            "ledger_database_connections_active",
            "Database connections in use.",
        ),
        Field(
            "storage.dbQueryTimeMs",
            "ledger_database_query_seconds",
            "Time of a query.",
            per=MILLI,
        ),
    )
)
_DASHBOARD_NODES = Message(
    (
        Field("status.isHealthy", "ledger_peer_healthy", "1 if the peer is healthy.", yes="true"),
        Field("status.isSynced", "ledger_peer_synced", "1 if the peer is up to date.", yes="true"),
        Field("performance.transactionsPerSecond", "ledger_peer_tps", "Transactions a second."),
        Field(
            "performance.p99LatencyMs",
            "ledger_peer_p99_latency_seconds",
            "99th percentile of the peer's latency.",
            per=MILLI,
        ),
        Field("resources.cpuUsage", "ledger_peer_cpu_ratio", "CPU in use.", per=PERCENT),
        Field("resources.memoryUsedMB", "ledger_peer_memory_bytes", "Memory used.", times=MIB),
        Field("connectivity.connectedPeers", "ledger_peer_peers", "Peers of the peer."),
        Field("blockchain.currentBlockHeight", "ledger_peer_block_height", "Its last block."),
        Field("blockchain.blocksBehind", "ledger_peer_blocks_behind", "Blocks to catch up."),
        Field("blockchain.mempoolSize", "ledger_peer_mempool_size", "Transactions waiting."),
    ),
    "peer",
    "nodeId",
)
DASHBOARD = {
    "metrics": _DASHBOARD_METRICS,
    "nodes": _DASHBOARD_NODES,
    "performance": _DASHBOARD_PERFORMANCE,
}
