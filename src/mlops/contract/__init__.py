"""What all rooms agree on: the project's declarations, parameters, dataset, bundle and paths.

Imports `base` alone. What two rooms must read and write alike comes here.
"""
