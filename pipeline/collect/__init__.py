"""The collector: targets, scraping, sockets and batching into Kafka."""
