"""The gate's verdict: what was asked, what was found, and why it was refused, as files."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mlops.base.errors import UserError
from mlops.base.files import read_json, whole_folder, write_json

FOLDER = Path("verdict")
FILE = "verdict.json"
PAGE = "verdict.md"


class Record(BaseModel):
    """A frozen record that knows no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(Record):
    """One rule: what was found, what was allowed; `why` says what it means when it failed."""

    name: str
    found: str
    limit: str
    passed: bool
    why: str = ""

    @property
    def mark(self) -> str:
        """The sign that a reader looks for."""
        return "✅" if self.passed else "❌"


class Compared(Record):
    """One metric of both models on the same rows; `low` and `high` bound the difference."""

    name: str
    rows: int
    candidate: float | None
    champion: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


class Verdict(Record):
    """What the gate says of one candidate; digests in hex, `champion` None at a first release."""

    accepted: bool
    candidate: str
    evidence: str
    champion: str | None
    champion_by: str
    base: str
    rules: tuple[Rule, ...]
    metrics: tuple[Compared, ...] = ()
    slices: tuple[Compared, ...] = ()

    @property
    def refusals(self) -> list[Rule]:
        """The rules that failed."""
        return [rule for rule in self.rules if not rule.passed]

    @property
    def line(self) -> str:
        """The verdict in a line."""
        champion = self.champion[:12] if self.champion else self.champion_by
        about = f"{self.candidate[:12] or 'no bundle'}, champion {champion}"
        if self.accepted:
            return f"accepted: {about}, {len(self.rules)} rules"
        reasons = "; ".join(f"{rule.name}: {rule.why or rule.found}" for rule in self.refusals)
        return f"refused: {about}: {reasons}"

    def save(self, root: Path) -> None:
        """Write the verdict as JSON and as Markdown; an earlier one goes, its report too."""
        with whole_folder(root / FOLDER) as folder:
            write_json(folder / FILE, self.model_dump(mode="json"))
            (folder / PAGE).write_text(self.page)

    @property
    def page(self) -> str:
        """The verdict in Markdown: each rule with what was found, the limit, and why."""
        rows = [
            f"| {rule.mark} | {rule.name} | {rule.found} | {rule.limit} | {rule.why} |"
            for rule in self.rules
        ]
        head = ["| | rule | found | limit | why |", "| --- | --- | --- | --- | --- |"]
        return "\n".join([f"**{self.line.split(':')[0].capitalize()}**", "", *head, *rows, ""])


def load(root: Path) -> Verdict:
    """The last verdict. Raises UserError when the gate has not run."""
    path = root / FOLDER / FILE
    try:
        return Verdict.model_validate(read_json(path))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; `mlops gate` writes it") from None
    except (ValueError, ValidationError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
