"""A year in the life of a model: the real year of flights, month by month, under three policies."""
