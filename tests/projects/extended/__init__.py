"""The project `trips` with a source, a family, a metric, a gate rule and a target of its own."""
