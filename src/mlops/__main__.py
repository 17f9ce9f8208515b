"""`python -m mlops`: the verbs, where the package is not installed."""

from mlops.cli import main

main()
