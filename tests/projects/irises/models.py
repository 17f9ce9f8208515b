"""The task alone: the search starts from bounds that fit the rows."""

TASK = "multiclass"
