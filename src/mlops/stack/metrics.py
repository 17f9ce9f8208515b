"""Prometheus, and the gateway to which runs that end push what they measured."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base import processes
from mlops.base.processes import HOST
from mlops.stack.home import Home

if TYPE_CHECKING:
    from mlops.stack.parts import Part

CONFIGURATION = Path("infra/local/prometheus")
TARGETS = ("scoring", "gateway")
HOW = "install it (Debian: apt-get install prometheus prometheus-pushgateway)"


def gateway(home: Home) -> Part:
    """What monitoring pushes, kept until it is asked for."""
    from mlops.stack.parts import Part, program

    address = f"{HOST}:{home.ports['gateway']}"
    return Part(
        "gateway",
        (program("prometheus-pushgateway", HOW), f"--web.listen-address={address}"),
        home.url("gateway"),
        partial(processes.answers, home.url("gateway") + "/-/ready"),
    )


def prometheus(home: Home) -> Part:
    """The same rules as in the cloud; only the addresses are this stack's."""
    from mlops.stack.parts import Part, program

    folder = home.folder / "prometheus"
    shutil.copytree(home.root / CONFIGURATION, folder / "configuration", dirs_exist_ok=True)
    _write_targets(home, folder / "configuration/targets.json")
    address = f"{HOST}:{home.ports['prometheus']}"
    return Part(
        "prometheus",
        (program("prometheus", HOW), f"--config.file={folder / 'configuration/prometheus.yml'}",
         f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"),
        home.url("prometheus"),
        partial(processes.answers, home.url("prometheus") + "/-/ready"),
    )  # fmt: skip


def _write_targets(home: Home, file: Path) -> None:
    targets = [
        {"targets": [f"{HOST}:{home.ports[name]}"], "labels": {"job": name}} for name in TARGETS
    ]
    file.write_text(json.dumps(targets, indent=2) + "\n")
