"""The ground floor: what every stage stands on, and nothing that knows a stage."""
