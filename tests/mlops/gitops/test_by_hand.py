"""The loop without a forge, by the very commands of the docs, on a bare remote."""

import re
import subprocess
from pathlib import Path

from tests.mlops.gitops.conftest import COMMAND

PAGE = Path(__file__).parents[3] / "docs/gitops.md"


def test_the_commands_of_the_docs_release_promote_and_go_back(clone):
    (commands,) = re.findall(
        r"^## Without a forge.*?```bash\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    python, option, code = COMMAND
    verb = f"mlops() {{ '{python}' {option} '{code}' \"$@\"; }}"
    script = f"set -euo pipefail\nexport PYTHONPATH=$PWD/src\n{verb}\n{commands}"
    # As `git clone` leaves it.
    clone.git("fetch", "--quiet", "origin")
    clone.git("branch", "--quiet", "--set-upstream-to", "origin/main")
    done = subprocess.run(
        ["bash", "-c", script], cwd=clone.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "by hand, after a review: git switch main" in done.stdout
    staging, production = (
        next(line.split() for line in done.stdout.splitlines() if line.startswith(f"{name}  "))
        for name in ("staging", "production")
    )
    assert staging[1] == staging[2] != "-"
    assert production[1:3] == ["-", "-"]
    assert clone.git("rev-parse", "HEAD") == clone.git("rev-parse", "origin/main")
