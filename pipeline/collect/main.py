"""`watchkeeper collect`: start the collector, stop it on a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys

import aiohttp

from pipeline.api.http import ListenError, serve
from pipeline.brokers import connection_of
from pipeline.collect.collector import Collector, load_config
from pipeline.collect.discovery import CollectorConfig
from pipeline.collect.producer import KafkaProducer
from pipeline.collect.spool import SpoolError
from pipeline.document import ConfigError
from pipeline.ending import stop_on_signal
from pipeline.ingest.prometheus_text import compile_parser
from pipeline.selfmetrics import configure_logging, fields
from pipeline.settings import Settings

log = logging.getLogger(__name__)

EXIT_DONE, EXIT_FAILED, EXIT_SETTINGS, EXIT_MISSING = 0, 1, 3, 4


def run(settings: Settings) -> int:
    """Collect until SIGINT or SIGTERM; the exit code."""
    configure_logging("collect")
    # The batcher says once that Kafka is away; its client says it at every attempt.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        config = load_config(settings)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return EXIT_SETTINGS
    try:
        return asyncio.run(_collect(settings, config))
    except ListenError as error:
        print(f"collect.listen: {error}", file=sys.stderr)
        return EXIT_MISSING
    except SpoolError as error:
        print(f"collect.buffer_folder: {error}", file=sys.stderr)
        return EXIT_MISSING


async def _collect(settings: Settings, config: CollectorConfig) -> int:
    compile_parser()
    gc.freeze()  # what is loaded by now stays loaded: no need to look at it for garbage
    stop = stop_on_signal()
    producer = KafkaProducer(connection_of(settings))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        collector = Collector(settings, config, producer, session)
        server = await serve(collector.app(), settings.collect.listen, settings.web.config_file)
        log.info("collecting: %s", fields(listen=f"{server.host}:{server.port}"))
        work = asyncio.create_task(collector.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
            failed = work.done()
        finally:
            for task in (work, stopping):
                task.cancel()
            await asyncio.wait([work, stopping])
            await server.close()
            await producer.close()
    if failed and not work.cancelled():
        log.error("collecting failed", exc_info=work.exception())
        return EXIT_FAILED
    return EXIT_DONE
