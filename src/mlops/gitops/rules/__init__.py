"""The gate's rules: a module each, with `judge(case)`, which yields one `verdict.Rule` or more.

`gate.rules` names them; a rule that raises an error or yields nothing counts as failed. Helpers
that several rules need are in `mlops.gitops.verdict`.
"""
