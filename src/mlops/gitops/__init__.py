"""What a pull request and a merge do: gate, rules, release, promotion, rollback, reconcile.

And `backtest/`: what the pinned models would have predicted before. Imports the rooms up to
`forge`. A new rule of the gate is a file in `rules/`.
"""
