"""Where notifications go: rendering (pure) above sending."""
