"""Bytes of one input format in, samples out. No sockets here."""
