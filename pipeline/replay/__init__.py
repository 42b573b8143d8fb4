"""Records of a topic sent again: those of a time range, or those that were rejected."""
