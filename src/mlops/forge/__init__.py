"""Git and the forges: one protocol, GitHub and Azure DevOps behind it. Knows nothing of models.

Imports `base` alone. A new forge is a module beside `github.py` and an entry in `forge.py`.
"""
