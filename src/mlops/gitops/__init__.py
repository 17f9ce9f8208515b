"""What a pull request does: judge, report, pin, reconcile, and say so on the forge."""
