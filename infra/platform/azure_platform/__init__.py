"""The platform on Azure as Pulumi resources.

`settings` reads a stack's file, `names` names everything by one rule, `place` is what every
resource needs (group, tags, logs), `identities` says who may do what. `stores`, `workspaces`,
`lakehouse`, `servers` and `monitoring` declare the resources, and `stack` puts one environment
together.
"""
