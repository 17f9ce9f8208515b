"""Where each stage's output lies, below the repository's root."""

from pathlib import Path

RAW = Path("data/raw")
FEATURES = Path("data/features")
SEARCH = Path("models/search")
BUNDLE = Path("models/bundle")
EVIDENCE = Path("reports")

RESULT = "result.json"

LOG = Path("logs/stages.jsonl")
SERVERS = Path(".run/servers.json")
