"""Who knows monitoring, and what its import costs."""

import ast
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[3] / "src" / "mlops"
HEAVY = {"duckdb", "jinja2", "mlflow", "onnxruntime", "pandas", "scipy", "sklearn"}
# The rooms that monitoring stands on.
FLOORS = ("core", "gitops", "report", "monitoring")


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names}
    return froms | names


def test_nothing_that_serves_trains_or_deploys_knows_monitoring():
    for room in ("core", "serving", "stages", "deploy", "report", "sources"):
        for path in (SRC / room).rglob("*.py"):
            assert not any("mlops.monitoring" in name for name in imported(path)), path


def test_monitoring_stands_on_the_floors_below_it():
    for path in (SRC / "monitoring").rglob("*.py"):
        ours = {name.split(".")[1] for name in imported(path) if name.startswith("mlops.")}
        assert ours <= set(FLOORS), path


def test_it_is_imported_without_the_libraries_that_it_works_with():
    code = "import sys, mlops.monitoring.watch; print(*{n.split('.')[0] for n in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & HEAVY == set()
