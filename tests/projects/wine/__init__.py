"""A multi-class problem that stands in for `src/flights`: who grew a wine."""
