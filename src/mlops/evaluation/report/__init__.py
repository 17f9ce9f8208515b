"""The evaluation report: what a prediction looks like, drawn and put on one page."""
