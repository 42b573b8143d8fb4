"""What a collector and Prometheus need to know to watch the simulated fleet."""

from __future__ import annotations

from pathlib import Path

import yaml

from pipeline.local.fleet.model import Node, fleet_nodes
from pipeline.local.fleet.server import HOST
from pipeline.local.fleet.sessions import ENDPOINTS
from pipeline.local.fleet.tokens import Tokens, User
from pipeline.settings import SimulateSettings

JOB = "aurigraph-production"
"""The job that the platform's rules select."""
METRICS_PATH, HEALTH_PATH = "/q/metrics", "/q/health"
INTERVAL = "5s"
CREDENTIALS = "collector.token"
"""Beside the files of targets: what opens the endpoints that want a token."""
OPEN_FEEDS = ("/ws/metrics", "/api/v11/live/stream", "/ws/dashboard", "/ws/channels")
STREAMS = tuple(path for path in ENDPOINTS if path not in OPEN_FEEDS)
"""Followed at the validators only: what is said there is said of the network, at every node."""
_HEADER = "# Generated: the targets of the simulated fleet. Nothing here is a real node.\n"

StaticConfig = dict[str, list[str] | dict[str, str]]
JobConfig = dict[str, str | list[str] | list[StaticConfig] | dict[str, str]]


def address_of(simulate: SimulateSettings, node: Node) -> str:
    return f"{HOST}:{simulate.base_port + node.index}"


def labels_of(node: Node) -> dict[str, str]:
    """What a target's series say beside job and instance."""
    return {"node": node.name, "node_type": node.node_type, "simulated": "true"}


def feeds_of(node: Node) -> tuple[str, ...]:
    """The WebSocket endpoints of a node that a collector follows."""
    return OPEN_FEEDS + STREAMS if node.node_type == "validator" else OPEN_FEEDS


def scrape_configs(simulate: SimulateSettings) -> list[JobConfig]:
    """The fleet's entry in a Prometheus configuration's `scrape_configs`."""
    return [
        {
            "job_name": JOB,
            "metrics_path": METRICS_PATH,
            "scrape_interval": INTERVAL,
            "scrape_timeout": INTERVAL,
            "static_configs": _static_configs(simulate),
        }
    ]


def feeds_config(simulate: SimulateSettings) -> dict[str, list[JobConfig]]:
    """The fleet's WebSockets and health checks, as `pipeline.collect.feeds_config` reads them."""
    static = _static_configs(simulate)
    return {
        "websocket_configs": [
            {"job_name": JOB, "feeds": list(OPEN_FEEDS), "static_configs": static},
            {
                "job_name": JOB,
                "feeds": list(STREAMS),
                "authorization": {"credentials_file": CREDENTIALS},
                "static_configs": _static_configs(simulate, "validator"),
            },
        ],
        "health_configs": [
            {
                "job_name": JOB,
                "path": HEALTH_PATH,
                "interval": INTERVAL,
                "timeout": INTERVAL,
                "static_configs": static,
            }
        ],
    }


def write_targets(simulate: SimulateSettings, folder: Path) -> tuple[Path, Path]:
    """Write the files for `collect.scrape_config` and `collect.feeds_config`; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / CREDENTIALS
    token.touch(mode=0o600)
    token.write_text(Tokens(simulate.seed).issue(User("watchkeeper", ("DEVELOPER",))) + "\n")
    scrape, feeds = folder / "scrape.yml", folder / "feeds.yml"
    scrape.write_text(_HEADER + _yaml({"scrape_configs": scrape_configs(simulate)}))
    feeds.write_text(_HEADER + _yaml(feeds_config(simulate)))
    return scrape, feeds


def _static_configs(simulate: SimulateSettings, node_type: str = "") -> list[StaticConfig]:
    return [
        {"targets": [address_of(simulate, node)], "labels": labels_of(node)}
        for node in fleet_nodes(simulate.nodes)
        if node_type in ("", node.node_type)
    ]


class _Dumper(yaml.SafeDumper):
    """Writes a list twice rather than as an alias, which not every reader of YAML takes."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _yaml(content: dict[str, list[JobConfig]]) -> str:
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False)
    return text
