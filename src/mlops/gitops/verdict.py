"""The gate's verdict as a file: each rule with the value found, its limit, and the reason."""

from __future__ import annotations

from pathlib import Path

from mlops.base import documents
from mlops.base.files import whole_folder, write_json
from mlops.registry.pin import Section

FOLDER = Path("verdict")
FILE = FOLDER / "verdict.json"
# With what other commands add to it.
WRITTEN = r"(verdict|proposal)\.json|report\.md|\w+\.cdx\.json"


class Rule(Section):
    """One rule's answer; `why` says what a failure means."""

    name: str
    found: str
    limit: str
    passed: bool
    why: str = ""

    @property
    def line(self) -> str:
        """The answer in a line."""
        why = f" ({self.why})" if self.why else ""
        return f"{self.name}: found {self.found}, expected {self.limit}{why}"


class Compared(Section):
    """One metric of both models on the same rows.

    `difference` is candidate less champion, `low` and `high` bound its 95 % interval; None is
    undefined, or no champion. `few` says what is too few for an interval, "" when nothing is.
    """

    name: str
    rows: int
    candidate: float | None
    champion: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    less_is_better: bool = False
    few: str = ""

    def gain(self, difference: float | None) -> float | None:
        """A difference with the sign that is negative where the candidate is worse."""
        return -difference if self.less_is_better and difference is not None else difference

    @property
    def worst(self) -> float | None:
        """The gain at the interval's end that is worst for the candidate."""
        return self.gain(self.high if self.less_is_better else self.low)

    @property
    def best(self) -> float | None:
        """The gain at the interval's end that is best for the candidate."""
        return self.gain(self.low if self.less_is_better else self.high)

    @property
    def change(self) -> str:
        """The difference with its interval."""
        return f"{number(self.difference, '+')} ({self.interval})"

    @property
    def interval(self) -> str:
        """The interval of the difference; a dash without one."""
        if self.low is None:
            return number(None)
        return f"{number(self.low, '+')} to {number(self.high, '+')}"


class Verdict(Section):
    """The gate's decision on one candidate; digests in hex, `champion` None at a first release.

    `judges` are what the branch changes of its own judge; `by_base` is the line of the base's gate
    then, "" otherwise.
    """

    accepted: bool
    candidate: str = ""
    evidence: str = ""
    champion: str | None = None
    champion_by: str
    base: str
    rules: tuple[Rule, ...]
    metrics: tuple[Compared, ...] = ()
    slices: tuple[Compared, ...] = ()
    judges: tuple[str, ...] = ()
    by_base: str = ""

    @property
    def refusals(self) -> list[Rule]:
        """The rules that failed."""
        return [rule for rule in self.rules if not rule.passed]

    @property
    def line(self) -> str:
        """The verdict in a line."""
        champion = self.champion[:12] if self.champion else self.champion_by
        subject = f"{self.candidate[:12] or 'no bundle'}, champion {champion}"
        if self.accepted:
            return f"accepted: {subject}, {len(self.rules)} rules"
        reasons = "; ".join(rule.line for rule in self.refusals)
        return f"refused: {subject}: {reasons}"

    def save(self, root: Path) -> None:
        """Write the verdict; an earlier one is removed with its report."""
        with whole_folder(root / FOLDER, WRITTEN) as folder:
            write_json(folder / FILE.name, self.model_dump(mode="json"))


def load(root: Path) -> Verdict:
    """The last verdict. Raises UserError when the gate has not run, or its file is damaged."""
    file = root / FILE
    return documents.load_json(file, Verdict, f"{file}: not found; `mlops gate` writes it")


def number(value: float | None, sign: str = "") -> str:
    """Four decimals, with `sign` "+" always signed; a dash for what is undefined."""
    return "–" if value is None else f"{value:{sign}.4f}"


def limit_rule(name: str, value: float | None, limit: float, less_is_better: bool) -> Rule:
    """Whether a metric reaches its limit; an undefined one does not."""
    why = f"{'above' if less_is_better else 'below'} the limit of params.yaml"
    return Rule(
        name=name,
        found="undefined" if value is None else f"{value:.4f}",
        limit=f"at {'most' if less_is_better else 'least'} {limit:g}",
        passed=value is not None and (value <= limit if less_is_better else value >= limit),
        why="these rows do not define it" if value is None else why,
    )


def most_rule(name: str, value: float, limit: float, unit: str) -> Rule:
    """Whether a measured quantity is at most its limit."""
    return Rule(
        name=name,
        found=f"{value:.2f} {unit}",
        limit=f"at most {limit:g} {unit}",
        passed=value <= limit,
        why="above the limit of params.yaml",
    )
