"""The machinery: what turns tables into a registered model."""
