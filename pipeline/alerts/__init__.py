"""What happens to alerts between evaluation and delivery: routing, grouping, timing. Pure."""
