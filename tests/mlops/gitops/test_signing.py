"""What a manifest's signer has signed runs, is promoted and is served; nothing else does."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path

import pytest

from mlops.base.errors import Refused, UserError
from mlops.deploy import manifest
from mlops.deploy.target import Endpoint
from mlops.gitops import pin_rules, promotion, reconcile, release, signing
from mlops.gitops.pins import only_pins_changed
from tests.signers import Sigstore, key_pair

WORKFLOW = "https://github.com/o/r/.github/workflows/retrain.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
BY_KEY = "signer:\n  key: environments/release.pub\n"
BY_WORKFLOW = f"signer:\n  identity: {WORKFLOW}\n  issuer: {ISSUER}\n  trust: trust.json\n"


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """The release's key pair and a stranger's, outside of the repository."""
    private, _ = key_pair(tmp_path, "release")
    key_pair(tmp_path, "stranger")
    monkeypatch.setenv(signing.KEY, str(private))
    return tmp_path


@pytest.fixture
def signer(clone, keys):
    """Both environments run only what the release's key has signed."""
    clone.workspace.change({"release": {"sign": "key"}})
    shutil.copy(keys / "release.pub", clone.root / "environments")
    ask(clone, BY_KEY)
    return clone


def ask(clone, text, environments=("staging", "production")):
    for name in environments:
        file = clone.root / manifest.path(name)
        above, pin = file.read_text().split("pin:")
        file.write_text(f"{above.split('signer:')[0]}{text}pin:{pin}")
    clone.commit("Name who must sign")


def sign(clone):
    with chdir(clone.root):
        return signing.sign(clone.params(), Path(), Path("models/bundle"))


def deploy(clone):
    with chdir(clone.root):
        return list(reconcile.run(clone.params(), Path(), "staging"))


def running(clone):
    from mlops.deploy import local

    with chdir(clone.root):
        return local.current(Endpoint("staging", "trips", Path()))


def answers(clone, base, candidate):
    with chdir(clone.root):
        return {rule.name: rule for rule in pin_rules.rules(Path(), base, candidate)}


def propose(clone, forge, verb, *arguments):
    with chdir(clone.root):
        monitored = (lambda source: ("", "ok"),) if verb is promotion.promote else ()
        return verb(Path(), *arguments, forge, *monitored)


def test_a_release_brings_its_signature_and_every_environment_asks_for_it(signer, keys, forge):
    signer.judge()
    digest = signer.workspace.digest("models/bundle")
    file = signing.file(digest)
    # What was verified is signed, once, and proposed with its signature.
    propose(signer, forge, release.release, "staging")
    signature = (signer.root / file).read_bytes()
    propose(signer, forge, release.release, "staging")
    assert (signer.root / file).read_bytes() == signature
    (signer.root / file).unlink()
    code, out, err = signer.command("sign")
    assert (code, err) == (0, "")
    assert out == f"bundle {digest[:12]} signed: {file}\n"
    (signer.root / file).unlink()
    before = signer.git("rev-parse", "HEAD")
    signer.merge("release/staging")
    changed = set(signer.git("diff", "--name-only", before, "HEAD").split())
    assert {"environments/staging.yaml", str(file)} <= changed
    # A release that is merged is a commit of pins: nothing is trained or judged for it.
    with chdir(signer.root):
        assert only_pins_changed(Path(), before)
    rules = answers(signer, before, "")
    assert [rules[f"{what} of staging"].passed for what in ("pin", "signature")] == [False, True]

    code, _, err = signer.command("reconcile", "staging")
    assert (code, err) == (0, "")
    propose(signer, forge, promotion.promote, "staging", "production")
    signer.merge("promote/production")
    code, _, err = signer.command("reconcile", "production")
    assert (code, err) == (0, "")


def test_what_is_not_signed_by_the_named_signer_is_not_deployed_and_what_ran_runs_on(signer, keys):
    pin = signer.judged_pin()
    sign(signer)
    signer.pin("staging", pin)
    assert deploy(signer)[-1] == "staging: as environments/staging.yaml says"
    base = signer.git("rev-parse", "HEAD")
    other = signer.challenge().judged_pin()
    signer.workspace.change({"release": {"sign": "key"}})
    signer.pin("staging", other)
    file = signer.root / signing.file(other.digest)

    def refused(reason):
        with pytest.raises(Refused, match=reason) as caught:
            deploy(signer)
        assert "\n" not in str(caught.value)
        assert running(signer).traffic == {pin.digest: 100}
        assert running(signer).note.startswith(f"{other.digest[:12]} not deployed: ")
        rule = answers(signer, base, other.digest)["signature of staging"]
        assert (rule.passed, rule.found) == (False, "none of its signer")

    refused("not found")
    shutil.copy(signer.root / signing.file(pin.digest), file)
    refused(f"signs bundle {pin.digest[:12]}")
    stranger = {signing.KEY: str(keys / "stranger.pem")}
    assert signer.command("sign", **stranger)[0] == 0
    refused("Key mismatch")
    code, _, err = signer.command("reconcile", "staging")
    assert (code, len(err.splitlines())) == (1, 1)
    sign(signer)
    good = file.read_text()
    file.write_text(good.replace('"sig":"M', '"sig":"N'))
    refused("expected a signature by")
    file.write_text(good)
    assert answers(signer, base, other.digest)["signature of staging"].passed
    deploy(signer)
    assert running(signer).traffic == {other.digest: 100}


def test_who_is_asked_for_from_now_on_must_have_signed_what_runs_already(clone, keys):
    pin = clone.judged_pin()
    clone.pin("staging", pin)
    base = clone.git("rev-parse", "HEAD")
    shutil.copy(keys / "release.pub", clone.root / "environments")
    ask(clone, BY_KEY)
    assert not answers(clone, base, "")["signature of staging"].passed
    clone.workspace.change({"release": {"sign": "key"}})
    sign(clone)
    assert answers(clone, base, "")["signature of staging"].passed


def test_a_workflow_without_a_key_signs_for_its_own_identity_alone(clone):
    pin, sigstore = clone.judged_pin(), Sigstore()
    sigstore.trust(clone.root / "trust.json")
    ask(clone, BY_WORKFLOW, ["staging"])
    file = clone.root / signing.file(pin.digest)
    file.parent.mkdir()
    file.write_text(sigstore.sign(clone.root / "models/bundle", f"{WORKFLOW}-not", ISSUER))
    clone.pin("staging", pin)
    with pytest.raises(Refused, match="SANs do not match"):
        deploy(clone)
    assert running(clone).traffic == {}
    file.write_text(sigstore.sign(clone.root / "models/bundle", WORKFLOW, ISSUER))
    deploy(clone)
    assert running(clone).traffic == {pin.digest: 100}


def test_without_a_key_or_a_credential_nothing_is_signed_and_one_line_says_why(
    keys, finished, tmp_path, monkeypatch
):
    workspace = finished("trips").copy(tmp_path / "repository")

    def refused(how, reason, folder="models/bundle"):
        workspace.change({"release": {"sign": how}})
        with chdir(workspace.root), pytest.raises(UserError, match=reason) as caught:
            signing.sign(workspace.params(), Path(), Path(folder))
        assert "\n" not in str(caught.value)
        assert not list(workspace.root.rglob("signatures/*"))

    refused("key", "^models/other/bundle.json: not found", "models/other")
    monkeypatch.delenv(signing.KEY)
    refused("key", f"^{signing.KEY}: found None, expected a private key's file")
    monkeypatch.setenv(signing.KEY, str(keys / "nowhere"))
    refused("key", f"^{signing.KEY}: found '.*nowhere'")
    monkeypatch.setenv(signing.KEY, str(keys / "release.pub"))
    refused("key", "^release.sign: key: ")
    locked, _ = key_pair(keys, "locked", password="a word")
    monkeypatch.setenv(signing.KEY, str(locked))
    refused("key", "^release.sign: key: ")
    monkeypatch.setenv(signing.UNLOCKS, "another word")
    refused("key", "^release.sign: key: ")
    for variable in ("GITHUB_ACTIONS", "BUILDKITE", "GITLAB_CI", "CIRCLECI"):
        monkeypatch.delenv(variable, raising=False)
    refused("keyless", "found no OpenID Connect credential")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    refused("keyless", "^release.sign: keyless: .*permission")

    monkeypatch.setenv(signing.UNLOCKS, "a word")
    workspace.change({"release": {"sign": "none"}})
    with chdir(workspace.root):
        assert "nothing is signed" in signing.sign(workspace.params(), Path(), Path("none"))
        workspace.change({"release": {"sign": "key"}})
        signing.sign(workspace.params(), Path(), Path("models/bundle"))
        digest = workspace.digest("models/bundle")
        signing.require(Path(), digest, manifest.Signer(key=str(keys / "locked.pub")))
