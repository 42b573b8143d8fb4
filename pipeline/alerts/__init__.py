"""What happens to alerts between evaluation and delivery, as pure functions: routing and grouping."""
