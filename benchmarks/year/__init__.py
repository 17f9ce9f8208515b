"""A simulated year: the real flights of a year, month by month, under three retraining policies."""
