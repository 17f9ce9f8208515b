"""Notebooks stay in the source format of Databricks when JupyterLab saves them."""

from pathlib import Path

FIRST = "# Databricks notebook source\n"


def keep_first_line(os_path: str, **_: object) -> None:
    """Jupytext begins the file with a marker of a cell; Databricks wants its own first line."""
    path = Path(os_path)
    if path.suffix == ".py" and (text := path.read_text()).startswith(f"# %%\n{FIRST}"):
        path.write_text(text.removeprefix("# %%\n"))


c.FileContentsManager.post_save_hook = keep_first_line  # noqa: F821 # type: ignore[name-defined]
