"""What must not slip through as a change of pins, and what must not decide about a pin."""

from contextlib import chdir, suppress
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.contract.stages import RECORD
from mlops.deploy import manifest
from mlops.forge import branches
from mlops.gitops import pin_rules, pins, prepared, release
from mlops.pipeline import reproduction
from mlops.registry.pin import BRANCH

STAGING = manifest.path("staging")


def only_pins(clone, base):
    with chdir(clone.root):
        return pins.only_pins_changed(Path(), base)


@pytest.fixture
def pinned(clone):
    """A clone whose staging pins its bundle; the commit before; the pin."""
    base = clone.git("rev-parse", "HEAD")
    pin = clone.judged_pin()
    clone.pin("staging", pin)
    return clone, base, pin


def test_what_stands_below_a_pin_is_no_part_of_it(pinned):
    clone, base, _ = pinned
    assert only_pins(clone, base)
    file = clone.root / STAGING
    whole = file.read_text()
    for below in ("<<: {breaking: any}\n", "promotion: {hours: 0}\n", "# a word\n", "\n\n"):
        file.write_text(whole + below)
        clone.commit("A word")
        slipped = False
        # One that adds a key is refused before.
        with suppress(UserError):
            slipped = only_pins(clone, base)
        assert not slipped, below


def test_a_pin_in_a_text_does_not_hide_the_real_one():
    text = 'target: local\nendpoint: trips\nbreaking: "\npin: a"\n"pin": null\n'
    with pytest.raises(UserError, match="staging: "):
        manifest.parse(text, "staging")


def test_only_a_signature_may_lie_beside_a_pin(pinned):
    clone, base, _ = pinned
    folder = clone.root / "environments/signatures"
    folder.mkdir()
    for name in ("x.sh", "release.pub", f"{'a' * 64}.json.sh", "a.json"):
        (folder / name).write_text("?")
        clone.commit("A file")
        assert not only_pins(clone, base), name
        (folder / name).unlink()
    (folder / f"{'a' * 64}.json").write_text("?")
    clone.commit("A signature")
    assert only_pins(clone, base)


def test_a_lock_of_another_bundle_than_the_pinned_one_is_no_part_of_a_pin(pinned):
    clone, base, pin = pinned
    file = clone.root / RECORD
    file.write_text(file.read_text().replace(pin.dvc.bundle, f"{'0' * 32}.dir"))
    clone.commit("A typo")
    assert not only_pins(clone, base)


def test_production_takes_only_what_its_source_pins_on_main(pinned):
    clone, _, pin = pinned
    file = clone.root / manifest.path("production")
    file.write_text(file.read_text().replace("pin: null", "promotion: {from: staging}\npin: null"))
    base = clone.commit("From staging alone")
    clone.pin("production", pin)
    with chdir(clone.root):
        (rule,) = pin_rules.rules(Path(), base, "")
    assert rule.passed, rule.why
    other = clone.challenge().judged_pin()
    base = clone.git("rev-parse", "HEAD")
    clone.pin("production", other)
    with chdir(clone.root):
        (rule,) = pin_rules.rules(Path(), base, other.digest)
    assert not rule.passed
    assert "promotion.from: expected what staging pins on main" in rule.why


def test_main_does_not_restore_what_a_merged_lock_names(clone):
    """The record of main's inputs with another bundle's output, which the store has."""
    with chdir(clone.root):
        ours = pins.locked(Path())
        theirs = challengers_bundle(clone)
        text = Path(RECORD).read_text()
        Path(RECORD).write_text(text.replace(ours.bundle, theirs))
        with pytest.raises(UserError, match=r"dvc\.lock: differs from the commit"):
            release.clean_room(Path())
        clone.commit("A typo")
        assert release.clean_room(Path()).startswith("dvc.lock: set aside")
        assert not Path(RECORD).exists()
        reproduction.reproduce("train", Path())
        assert theirs not in Path(RECORD).read_text()


def challengers_bundle(clone):
    """DVC's name of the other bundle that the clone knows."""
    text = clone.git("show", "challenger:dvc.lock")
    return next(line.split()[-1] for line in text.split("models/bundle")[1].splitlines()
                if "md5:" in line and ".dir" in line)  # fmt: skip


def test_what_somebody_put_onto_the_branch_of_bundles_before_is_replaced(clone):
    pin, before = clone.judged_pin(), ""
    with chdir(clone.root):
        for file in (Path(pin.digest), Path(pin.digest, "models/bundle/extra.txt")):
            head = branches.write(Path(), "", {file: b"?"}, "?")
            branches.push(Path(), head, BRANCH, before)
            prepared.keep(Path(), Path(), pin)
            before = branches.head(Path(), BRANCH)
            found = branches.folder_at(Path(), before, Path(pin.digest))
            assert found
            assert not any(str(path).endswith("extra.txt") for path in found)


def test_a_proposal_nested_without_end_is_a_line(clone):
    (clone.root / "verdict").mkdir(exist_ok=True)
    (clone.root / prepared.FILE).write_text("[" * 100_000)
    clone.judged_pin()
    (clone.root / prepared.FILE).write_text("[" * 100_000)
    with chdir(clone.root), pytest.raises(UserError, match=r"proposal\.json: not JSON"):
        prepared.verified(Path(), "staging", Path())
