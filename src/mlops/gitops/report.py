"""The pull request's comment: the verdict first, then what moved, what changed, how to repeat it.

Plain Markdown: neither forge shows inline SVG or data URIs in comments, so intervals are drawn
with characters, which both show alike.
"""

from __future__ import annotations

from pathlib import Path

from mlops.base import documents
from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.contract.bundle import Card
from mlops.contract.params import FILE as PARAMETERS
from mlops.contract.paths import BUNDLE
from mlops.evaluation.metrics import main_metric
from mlops.forge import git
from mlops.forge.protocol import GATE, DryRun, State
from mlops.forge.select import current_forge
from mlops.gitops import pin_history, verdict
from mlops.gitops.gate_inputs import PRODUCTION
from mlops.gitops.markdown import Row, drawing, folded, table
from mlops.gitops.verdict import Compared, Verdict, number, signed
from mlops.registry import store

FILE = verdict.FOLDER / "report.md"
KEY = "verdict"
SLICES = 6
COMMITS = 10
ADVICE = {
    "candidate": "Run `make retrain` on this branch, then `mlops gate`.",
    "champion": 'Nothing was compared. See docs/gitops.md, "When the gate refuses".',
}


def run(root: Path) -> Path:
    """Write the comment beside the verdict that it shows; its path."""
    path = root / FILE
    path.write_text(render(verdict.load(root), root), encoding="utf-8")
    return path


def post(file: Path, head: str | None) -> str:
    """Create or update the comment on the pull request of `head`, or of this CI run; its URL.

    Raises UserError when there is no such file, or no open pull request.
    """
    try:
        body = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(f"{file}: not found; `mlops report` writes it") from None
    forge = current_forge()
    number = forge.number(head)
    if number is None and isinstance(forge, DryRun):
        return f"no forge here; the comment is {file}"
    if number is None:
        raise UserError(f"pull request: none open for {head or 'this run'}")
    return forge.comment(number, body, KEY)


def mark(commit: str, state: State) -> None:
    """Set the gate's status of a commit, for rules that require it before a merge."""
    text = "accepted" if state == "success" else "refused, or not judged"
    current_forge().status(commit, state, GATE, text)


def render(judged: Verdict, root: Path) -> str:
    """The comment's Markdown."""
    card = _card(root / BUNDLE)
    parts = [_head(judged), _rules(judged), _metrics(judged, card), _slices(judged, card)]
    if card:
        parts.append(_changes(judged, card, root))
    parts.append(_repeat(judged, root))
    return "\n\n".join(part for part in parts if part) + "\n"


def _card(folder: Path) -> Card | None:
    try:
        return bundle.read_card(folder)
    except (UserError, OSError):
        return None


def _head(judged: Verdict) -> str:
    mark = "✅ Accepted" if judged.accepted else "❌ Refused"
    champion = judged.champion_by
    if judged.champion:
        champion = f"`{judged.champion[:12]}`, scored by {judged.champion_by}"
    lines = [
        f"## {mark}: bundle `{judged.candidate[:12] or 'none'}`",
        "",
        f"Champion in production: {champion}.",
    ]
    for rule in judged.refusals:
        reason = f"- **{rule.name}**: {rule.why} (found {rule.found}, limit {rule.limit})."
        lines.append(f"{reason} {ADVICE.get(rule.name, '')}".rstrip())
    return "\n".join(lines)


def _rules(judged: Verdict) -> str:
    rows = [(rule.mark, rule.name, rule.found, rule.limit) for rule in judged.rules]
    return folded(f"{len(rows)} rules", table(("", "rule", "found", "limit"), rows))


def _metrics(judged: Verdict, card: Card | None) -> str:
    if not judged.metrics:
        return ""
    if judged.champion is None:
        values: list[Row] = [(m.name, number(m.candidate)) for m in judged.metrics]
        return "### Holdout\n\n" + table(("metric", "candidate"), values)
    main = main_metric(card.task)[0] if card else ""
    ordered = sorted(judged.metrics, key=lambda m: m.name != main)
    rows = [(m.name, *_compared(m)) for m in ordered]
    head = ("metric", "candidate", "champion", "difference", "95 % interval")
    title = f"### Candidate and champion on {ordered[0].rows:,} rows of the holdout"
    return f"{title}\n\n{table(head, rows)}\n\n{drawing(ordered)}"


def _compared(metric: Compared) -> Row:
    bounds = f"{signed(metric.low)} to {signed(metric.high)}"
    return number(metric.candidate), number(metric.champion), signed(metric.difference), bounds


def _slices(judged: Verdict, card: Card | None) -> str:
    if card is None or not judged.slices:
        return ""
    name, _ = main_metric(card.task)
    if judged.champion is None:
        worst = sorted(judged.slices, key=_badness)[:SLICES]
        weak = [(s.name, f"{s.rows:,}", number(s.candidate)) for s in worst]
        return f"### Weakest slices\n\n{table(('slice', 'rows', name), weak)}"
    moved = sorted(judged.slices, key=lambda s: -abs(s.difference or 0.0))[:SLICES]
    rows = [(s.name, f"{s.rows:,}", *_compared(s)) for s in moved]
    head = ("slice", "rows", "candidate", "champion", "difference", "95 % interval")
    return f"### Slices that moved most ({name})\n\n{table(head, rows)}\n\n{drawing(moved)}"


def _badness(metric: Compared) -> float:
    """A sorting key that puts the worst first, undefined ones last."""
    if metric.candidate is None:
        return float("inf")
    return -metric.candidate if metric.less_is_better else metric.candidate


def _changes(judged: Verdict, card: Card, root: Path) -> str:
    since = _since(judged, root)
    rows = [*_parameters(since, root), *_model(judged, card, root)]
    parts = ["### What changed", table(("what", "production", "this branch"), rows)]
    commits = _commits(since, root)
    if commits:
        parts.append(folded(f"{len(commits)} commits", "\n".join(commits)))
    return "\n\n".join(parts)


def _since(judged: Verdict, root: Path) -> str:
    """The commit that made the champion, where it is known here; else the base."""
    pin = pin_history.pin_at(root, judged.base, PRODUCTION) if judged.champion else None
    return pin.commit if pin and git.exists(root, pin.commit) else judged.base


def _parameters(since: str, root: Path) -> list[Row]:
    """The keys of params.yaml whose values differ from what they were."""
    earlier = git.show(root, since, PARAMETERS)
    before = _leaves(documents.parse(earlier, str(PARAMETERS))) if earlier else {}
    after = _leaves(documents.read(root / PARAMETERS, "the pipeline's parameters"))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [(f"`{key}`", str(before.get(key, "-")), str(after.get(key, "-"))) for key in keys]


def _leaves(content: object, path: str = "") -> dict[str, object]:
    if not isinstance(content, dict):
        return {path: content}
    leaves: dict[str, object] = {}
    for key, value in content.items():
        leaves |= _leaves(value, f"{path}.{key}" if path else str(key))
    return leaves


def _model(judged: Verdict, card: Card, root: Path) -> list[Row]:
    """Family, rows, days, hashes and features of both bundles, where they differ."""
    # The gate has fetched it.
    champion = _card(root / store.STORE / judged.champion / BUNDLE) if judged.champion else None
    ours, theirs = _facts(card), _facts(champion) if champion else {}
    rows: list[Row] = [(k, theirs.get(k, "-"), ours[k]) for k in ours if theirs.get(k) != ours[k]]
    if champion:
        new, old = ({column.name for column in c.inputs} for c in (card, champion))
        rows += [("features added", "", ", ".join(sorted(new - old)))] if new - old else []
        rows += [("features removed", ", ".join(sorted(old - new)), "")] if old - new else []
    return rows


def _facts(card: Card) -> dict[str, str]:
    days = card.trained_on
    return {
        "family": card.family,
        "training rows": f"{days['rows']:,}",
        "training days": f"{days['since']} to {days['until']}",
        "features": str(len(card.inputs)),
        **{name: card.hashes[name][:12] for name in ("code", "data", "holdout")},
    }


def _commits(since: str, root: Path) -> list[str]:
    try:
        log = git.git(root, "log", f"--max-count={COMMITS}", "--format=- %h %s", f"{since}..HEAD")
    except git.GitError:
        return []
    return log.splitlines()


def _repeat(judged: Verdict, root: Path) -> str:
    commit = git.commit(root, "HEAD")[:12]
    command = f"git checkout {commit} && make retrain && mlops gate --base {judged.base[:12]}"
    return (
        f"Repeat it: `{command} && mlops report`. "
        "The whole evaluation is `report.html` in this run's artifacts."
    )
