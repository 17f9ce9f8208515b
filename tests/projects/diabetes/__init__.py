"""A regression that stands in for `src/flights`: how a patient's diabetes is after one year."""
