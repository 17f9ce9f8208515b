"""Drift of what a model is asked, how well it still answers, and what follows from that."""
