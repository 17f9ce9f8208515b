"""No space of its own: the template's for the number of rows."""

TASK = "regression"
