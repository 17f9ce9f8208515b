"""Git and the forges: one protocol, GitHub and Azure DevOps behind it. Knows nothing about models.

Imports `base` only. A new forge is a module beside `github.py`, with a `rest.RestForge` or another
`protocol.Forge`, and an entry in `select.py`.
"""
