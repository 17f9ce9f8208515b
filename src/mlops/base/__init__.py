"""What every room uses: errors, atomic files, processes, environments, HTTP with
retries, safe YAML.

Imports nothing of mlops. A new helper comes here only when it knows nothing of models.
"""
