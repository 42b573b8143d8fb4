"""A simulated fleet of the ledger platform, over real sockets."""
