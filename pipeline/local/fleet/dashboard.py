"""What a node says at `/ws/dashboard`: the network as it sees it, and itself in detail.

Instants within `data` are numeric seconds there (PLATFORM.md, section 1).
"""

from __future__ import annotations

from pipeline.local.fleet.model import (
    BLOCK_S,
    OLD_GEN_BYTES,
    VERSION,
    FleetState,
    NetworkState,
    NodeState,
)
from pipeline.local.fleet.numbers import at_least, rounded, whole
from pipeline.local.fleet.payloads import TARGET_TPS, Json

_MB = 1 << 20
_MEMORY_TOTAL_MB = 4096
_DISK_GB, _DISK_USED_GB = 500, 50
_PEAK_THREADS = 260


def metrics(state: FleetState, index: int) -> Json:
    """The network, the node's own health, and the last second as history."""
    node, network, instant = state.nodes[index], state.network, state.time_ms / 1000
    confirmed = network.transactions - network.failed
    memory_percent = rounded(node.memory / _MB / _MEMORY_TOTAL_MB * 100, 2)
    data: Json = {
        "transactionMetrics": {
            "currentTPS": network.tps,
            "averageTPS": network.average_tps,
            "peakTPS": network.peak_tps,
            "totalTransactions": whole(network.transactions),
            "pendingTransactions": whole(network.pending),
            "confirmedTransactions": whole(confirmed),
            "failedTransactions": whole(network.failed),
            "successRate": rounded(100 * confirmed / at_least(1.0, network.transactions), 4),
            "averageFinalityMs": rounded(network.latency * 2000, 3),
            "p50FinalityMs": rounded(network.p50 * 2000, 3),
            "p95FinalityMs": rounded(network.p95 * 2000, 3),
            "p99FinalityMs": rounded(network.p99 * 2000, 3),
            "transactionsByType": {
                "transfer": whole(network.transactions * 0.6),
                "contract": whole(network.transactions * 0.05),
            },
        },
        "networkMetrics": {
            "totalNodes": network.total_nodes,
            "activeNodes": network.active_nodes,
            "inactiveNodes": network.total_nodes - network.active_nodes,
            "totalBlocks": network.block_height,
            "averageBlockTime": rounded(network.block_time * 1000, 1),
            "networkLatencyMs": rounded(network.p50 * 250, 3),
            "bandwidthInMBps": whole(network.tps / 25_000),
            "bandwidthOutMBps": whole(network.tps / 27_000),
            "activeConnections": whole(node.connections),
            "networkHealthScore": rounded(100 * network.active_nodes / network.total_nodes, 2),
        },
        "consensusMetrics": {
            "consensusAlgorithm": "HyperRAFT++",
            "currentTerm": network.term,
            "leaderId": network.leader,
            "commitIndex": network.block_height,
            "consensusLatencyMs": rounded(network.p50 * 300, 3),
            "throughputTPS": network.tps,
            "quorumSize": network.validators // 2 + 1,
            "activeValidators": network.active_validators,
            "consensusHealthScore": rounded(
                100 * network.active_validators / max(1, network.validators), 2
            ),
            "totalConsensusOps": network.block_height,
            "failedConsensusOps": 0,
        },
        "nodeHealth": [
            {
                "nodeId": node.node.name,
                "status": "ACTIVE",
                "role": _role(node, network),
                "cpuUsage": rounded(node.cpu * 100, 2),
                "memoryUsage": memory_percent,
                "diskUsage": 100.0 * _DISK_USED_GB / _DISK_GB,
                "uptime": whole(node.uptime),
                "lastHeartbeat": instant,
                "latencyMs": rounded(node.latency * 1000, 3),
                "blocksProcessed": network.block_height,
                "transactionsProcessed": whole(network.transactions),
                "isHealthy": True,
            }
        ],
        "systemPerformance": {
            "cpuUtilization": rounded(node.system_cpu * 100, 2),
            "memoryUsedMB": whole(node.memory / _MB),
            "memoryTotalMB": _MEMORY_TOTAL_MB,
            "diskUsedGB": _DISK_USED_GB,
            "diskTotalGB": _DISK_GB,
            "diskIOReadMBps": rounded(140 * node.cpu, 2),
            "diskIOWriteMBps": rounded(200 * node.cpu, 2),
            "activeThreads": whole(node.threads),
            "threadPoolSize": 256,
            "gcPauseMs": rounded(node.gc_pause * 1000, 3),
            "uptimeSeconds": whole(node.uptime),
        },
        "recentHistory": [
            {
                "timestamp": instant,
                "tps": network.tps,
                "latencyMs": rounded(network.latency * 1000, 3),
                "cpuUsage": rounded(node.cpu * 100, 2),
                "memoryUsage": memory_percent,
                "activeNodes": network.active_nodes,
            }
        ],
        "timestamp": instant,
        "updateIntervalMs": 1000,
    }
    return _envelope("metrics", data, state.time_ms)


def nodes(state: FleetState, index: int) -> Json:
    """The node's own entry; its peers report theirs themselves."""
    node, network, instant = state.nodes[index], state.network, state.time_ms / 1000
    peers = network.active_nodes - 1
    memory_mb = whole(node.memory / _MB)
    data: Json = [
        {
            "nodeId": node.node.name,
            "nodeType": node.node.node_type.upper(),
            "version": VERSION,
            "status": {
                "state": "ACTIVE",
                "role": _role(node, network),
                "isHealthy": True,
                "isValidator": node.node.node_type == "validator",
                "isSynced": True,
                "uptimeSeconds": whole(node.uptime),
                "startTime": instant - node.uptime,
                "lastHeartbeat": instant,
                "healthScore": rounded(100 - 10 * node.cpu - 1000 * node.error_ratio, 2),
            },
            "performance": {
                "transactionsPerSecond": rounded(node.tps, 1),
                "blocksPerSecond": 1 / BLOCK_S,
                "totalTransactionsProcessed": whole(network.transactions),
                "totalBlocksProduced": network.block_height,
                "averageLatencyMs": rounded(node.latency * 1000, 3),
                "p99LatencyMs": rounded(node.p99 * 1000, 3),
                "validationsPerformed": whole(network.transactions / 2),
                "validationSuccessRate": 99.98,
            },
            "resources": {
                "cpuUsage": rounded(node.cpu * 100, 2),
                "cpuUserTime": rounded(node.cpu * 73, 2),
                "cpuSystemTime": rounded(node.cpu * 27, 2),
                "cpuCores": node.node.cores,
                "memoryUsedMB": memory_mb,
                "memoryTotalMB": _MEMORY_TOTAL_MB,
                "memoryUsagePercent": rounded(100 * memory_mb / _MEMORY_TOTAL_MB, 2),
                "heapUsedMB": whole((node.memory - node.metaspace) / _MB),
                "heapMaxMB": OLD_GEN_BYTES // _MB,
                "diskUsedGB": _DISK_USED_GB,
                "diskTotalGB": _DISK_GB,
                "diskUsagePercent": 100.0 * _DISK_USED_GB / _DISK_GB,
                "diskReadMBps": rounded(140 * node.cpu, 2),
                "diskWriteMBps": rounded(200 * node.cpu, 2),
                "networkInMBps": rounded(node.tps / 2600, 2),
                "networkOutMBps": rounded(node.tps / 2800, 2),
                "totalBytesReceived": whole(node.work * 42e6),
                "totalBytesSent": whole(node.work * 39e6),
                "activeThreads": whole(node.threads),
                "peakThreads": _PEAK_THREADS,
            },
            "connectivity": {
                "connectedPeers": peers,
                "maxPeers": 100,
                "averagePeerLatencyMs": rounded(node.p50 * 250, 3),
                "peerLatencies": {
                    peer.node.name: rounded(peer.p50 * 250, 3)
                    for step in (1, 2)
                    if (peer := state.nodes[(index + step) % len(state.nodes)]) is not node
                },
                "inboundConnections": peers // 2,
                "outboundConnections": peers - peers // 2,
                "isReachable": True,
                "publicAddress": f"{node.node.name}.simulated:9003",
            },
            "blockchain": {
                "currentBlockHeight": network.block_height,
                "syncedBlockHeight": network.block_height,
                "blocksBehind": 0,
                "syncProgress": 100.0,
                "lastBlockTime": instant - instant % BLOCK_S,
                "transactionPoolSize": whole(network.pending),
                "mempoolSize": whole(network.pending),
                "blockchainSizeGB": rounded(network.block_height * 1.5e-7, 3),
            },
            "timestamp": instant,
            "lastUpdate": instant,
        }
    ]
    return _envelope("nodes", data, state.time_ms)


def performance(state: FleetState, index: int) -> Json:
    node, network, instant = state.nodes[index], state.network, state.time_ms / 1000
    memory_mb = whole(node.memory / _MB)
    failed_share = network.failed / at_least(1.0, network.transactions)
    data: Json = {
        "throughput": {
            "currentTPS": network.tps,
            "averageTPS": network.average_tps,
            "peakTPS": network.peak_tps,
            "targetTPS": TARGET_TPS,
            "throughputEfficiency": rounded(100 * network.tps / TARGET_TPS, 2),
            "totalTransactionsProcessed": whole(network.transactions),
            "blocksPerSecond": 1 / BLOCK_S,
            "transactionsPerBlock": network.block_transactions,
        },
        "latency": {
            "averageLatencyMs": rounded(node.latency * 1000, 3),
            "p50LatencyMs": rounded(node.p50 * 1000, 3),
            "p95LatencyMs": rounded(node.p95 * 1000, 3),
            "p99LatencyMs": rounded(node.p99 * 1000, 3),
            "minLatencyMs": rounded(node.p50 * 200, 3),
            "maxLatencyMs": rounded(node.p99 * 2100, 3),
            "finalityTimeMs": rounded(network.latency * 2000, 3),
            "consensusLatencyMs": rounded(network.p50 * 300, 3),
        },
        "resources": {
            "cpuUtilization": rounded(node.cpu * 100, 2),
            "availableCPUs": node.node.cores,
            "systemLoad": rounded(node.load_average, 2),
            "memoryUsedMB": memory_mb,
            "memoryFreeMB": _MEMORY_TOTAL_MB - memory_mb,
            "memoryTotalMB": _MEMORY_TOTAL_MB,
            "memoryUtilization": rounded(100 * memory_mb / _MEMORY_TOTAL_MB, 2),
            "diskUsedGB": _DISK_USED_GB,
            "diskFreeGB": _DISK_GB - _DISK_USED_GB,
            "diskTotalGB": _DISK_GB,
            "diskUtilization": 100.0 * _DISK_USED_GB / _DISK_GB,
            "networkInMBps": rounded(node.tps / 2600, 2),
            "networkOutMBps": rounded(node.tps / 2800, 2),
            "totalBytesIn": whole(node.work * 42e6),
            "totalBytesOut": whole(node.work * 39e6),
            "activeThreads": whole(node.threads),
            "peakThreads": _PEAK_THREADS,
            "threadPoolSize": 4096,
        },
        "reliability": {
            "errorRate": failed_share,
            "totalErrors": whole(network.failed),
            "totalRequests": whole(network.transactions),
            "successRate": rounded(100 * (1 - failed_share), 4),
            "timeoutsCount": 0,
            "retriesCount": 0,
            "errorsByType": {},
            "uptime": 100.0,
            "lastFailure": None,
        },
        "storage": {
            "storedTransactions": 500_000,
            "transactionCacheHits": whole(network.transactions),
            "transactionCacheMisses": 0,
            "transactionCacheHitRate": 100.0,
            "storedBlocks": network.block_height,
            "blockchainSizeGB": whole(network.block_height * 1.5e-7),
            "dbConnections": 20,
            "dbActiveConnections": whole(node.pool_active),
            "dbQueryTimeMs": rounded(node.latency * 200, 3),
            "cacheSize": 500_000,
            "cacheMaxSize": 1_000_000,
            "cacheUtilization": 50.0,
            "totalCacheEvictions": 0,
        },
        "timestamp": instant,
    }
    return _envelope("performance", data, state.time_ms)


def _envelope(kind: str, data: Json, time_ms: int) -> Json:
    return {"type": kind, "data": data, "timestamp": time_ms}


def _role(node: NodeState, network: NetworkState) -> str:
    return "LEADER" if node.node.name == network.leader else "FOLLOWER"
