"""Where each stage's output lies, below the repository's root."""

from pathlib import Path

RAW = Path("data/raw")
FEATURES = Path("data/features")
SEARCH = Path("models/search")
BUNDLE = Path("models/bundle")
EVIDENCE = Path("reports")

WRITERS = {
    RAW: "ingest",
    FEATURES: "featurize",
    SEARCH: "tune",
    BUNDLE: "train",
    EVIDENCE: "evaluate",
}

RESULT = "result.json"

LOG = Path("logs/stages.jsonl")
SERVERS = Path(".run/servers.json")


def not_found(path: Path) -> str:
    """What to say of a file that is not there: its name, and the stage that writes it."""
    for folder, stage in WRITERS.items():
        if f"/{folder}/" in f"/{path}/":
            return f"{path}: not found; {stage} writes it"
    return f"{path}: not found"
