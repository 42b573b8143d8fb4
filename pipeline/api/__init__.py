"""HTTP that the shells share: serving, limits, metrics."""
