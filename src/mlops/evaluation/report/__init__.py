"""The report: one HTML page with charts and tables of an evaluation."""
