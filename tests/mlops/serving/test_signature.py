"""A service that verifies serves what its signer has signed, and nothing else, not even later."""

import base64
import json
import shutil
import subprocess
import sys

import pytest

from mlops.base.errors import Refused, UserError
from mlops.base.files import folder_digest
from mlops.serving.service import Service
from mlops.serving.settings import Settings, parse
from mlops.serving.signature import verify
from tests.signers import Sigstore, key_pair

WORKFLOW = "https://github.com/o/r/.github/workflows/retrain.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"


@pytest.fixture(scope="module")
def original(made, tmp_path_factory):
    """A bundle, its signature, and two key pairs, of which the first has signed."""
    from model_signing.signing import Config

    folder = tmp_path_factory.mktemp("signed")
    shutil.copytree(made("lightgbm", "binary"), folder / "bundle")
    private, _ = key_pair(folder, "ours")
    key_pair(folder, "theirs")
    config = Config().use_elliptic_key_signer(private_key=private)
    config.sign(folder / "bundle", folder / "signature.json")
    return folder


@pytest.fixture
def signed(original, tmp_path):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path


def service(folder, **settings):
    signer = {"signature": folder / "signature.json", "key": str(folder / "ours.pub")}
    return Service(Settings(**{"bundle": str(folder / "bundle"), **signer, **settings}))


def append(path):
    path.write_bytes(path.read_bytes() + b"!")


def change_payload(folder):
    file = folder / "signature.json"
    content = json.loads(file.read_text())
    envelope = content["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"]).replace(b"model.onnx", b"model.0nnx")
    envelope["payload"] = base64.b64encode(payload).decode()
    file.write_text(json.dumps(content))


TAMPERED = {
    "a changed model": lambda folder: append(folder / "bundle/model.onnx"),
    "a hidden file more": lambda folder: (folder / "bundle/.gitignore").touch(),
    "a file less": lambda folder: (folder / "bundle/reference.parquet").unlink(),
    "a changed signature": change_payload,
    "no object as a signature": lambda folder: (folder / "signature.json").write_text("[]"),
    "no signature": lambda folder: (folder / "signature.json").unlink(),
    "another key": lambda folder: shutil.copy(folder / "theirs.pub", folder / "ours.pub"),
    "no key": lambda folder: (folder / "ours.pub").unlink(),
    "no key's file": lambda folder: (folder / "ours.pub").write_text("a key"),
}


def test_what_was_signed_is_served_from_any_folder(signed):
    (signed / "bundle").rename(signed / "elsewhere")
    digest = folder_digest(signed / "elsewhere")
    assert service(signed, bundle=str(signed / "elsewhere")).endpoint.model.digest == digest


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_anything_else_is_refused_in_one_line(signed, tamper):
    tamper(signed)
    with pytest.raises(Refused, match=r"(signature\.json|ours\.pub): (expected|signs)") as refused:
        service(signed)
    assert "\n" not in str(refused.value)


def test_a_signature_of_another_bundle_does_not_do(signed, made):
    with pytest.raises(Refused, match="signs bundle"):
        service(signed, bundle=str(made("xgboost", "binary")))


def test_an_unsigned_bundle_that_takes_over_later_leaves_the_signed_one_in_use(signed, made):
    (signed / "current").write_text("bundle")
    running = service(signed, bundle=str(signed / "current"))
    shutil.copytree(made("xgboost", "binary"), signed / "unsigned")
    (signed / "current").write_text("unsigned")
    with pytest.raises(Refused, match="signs bundle"):
        running._load()
    assert running.endpoint.model.digest == folder_digest(signed / "bundle")


@pytest.mark.parametrize(
    "arguments",
    ["--verify", "--verify --signature=s", "--verify --key=k",
     "--verify --signature=s --identity=i",
     "--verify --signature=s --key=k --identity=i --issuer=u", "--signature=s --key=k", "--key=k",
     "--trust=t"],
)  # fmt: skip
def test_half_of_a_verification_is_refused(arguments):
    with pytest.raises(UserError, match="^--verify: expected --signature"):
        parse(["bundle", *arguments.split()], None)


@pytest.mark.slow
def test_the_command_says_it_in_one_line_and_exits_with_1(signed):
    append(signed / "bundle/model.onnx")
    done = subprocess.run(
        [sys.executable, "-m", "mlops.serving", "bundle", "--port=0", "--verify",
         "--signature=signature.json", "--key=ours.pub"],
        cwd=signed, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: signature.json: signs bundle ")


@pytest.fixture
def keyless(signed):
    """The same bundle, signed by a workflow without a key; where its trust configuration is."""
    sigstore = Sigstore()
    file = signed / "signature.json"
    file.write_text(sigstore.sign(signed / "bundle", WORKFLOW, ISSUER))
    return signed, sigstore.trust(signed / "trust.json")


def by(folder, trust, identity=WORKFLOW, issuer=ISSUER):
    signer = {"key": None, "identity": identity, "issuer": issuer, "trust": str(trust)}
    return service(folder, **signer)


def test_a_bundle_that_the_named_workflow_has_signed_is_served_offline(keyless):
    assert by(*keyless).endpoint.model.digest == folder_digest(keyless[0] / "bundle")


@pytest.mark.parametrize(
    ("signer", "reason"),
    [
        ({"identity": WORKFLOW.replace("main", "mine")}, "SANs do not match"),
        ({"identity": WORKFLOW.replace("retrain", "ci")}, "SANs do not match"),
        ({"issuer": "https://accounts.google.com"}, "OIDCIssuer does not match"),
    ],
)
def test_another_identity_or_issuer_is_refused(keyless, signer, reason):
    with pytest.raises(Refused, match=reason):
        by(*keyless, **signer)


def test_an_identity_that_another_sigstore_certified_is_refused(keyless):
    folder, trust = keyless
    Sigstore().trust(trust)
    with pytest.raises(Refused, match="certificate chain"):
        by(folder, trust)


@pytest.mark.parametrize("part", ["inclusionProof", "inclusionPromise", "canonicalizedBody"])
def test_a_signature_that_no_public_log_has_is_refused(keyless, part):
    folder, _ = keyless
    content = json.loads((folder / "signature.json").read_text())
    del content["verificationMaterial"]["tlogEntries"][0][part]
    (folder / "signature.json").write_text(json.dumps(content))
    with pytest.raises(Refused, match="expected a signature by"):
        by(*keyless)


def test_neither_kind_of_signature_stands_for_the_other(keyless, original):
    folder, trust = keyless
    with pytest.raises(Refused, match="expected a signature by"):
        service(folder)
    shutil.copy(original / "signature.json", folder)
    with pytest.raises(Refused, match="expected certificate"):
        by(folder, trust)


def test_a_digest_alone_is_enough_to_verify(original):
    digest = folder_digest(original / "bundle")
    signer = str(original / "ours.pub"), None, None, None
    verify(digest, original / "signature.json", *signer)
    with pytest.raises(Refused, match="found 000000000000"):
        verify("0" * 64, original / "signature.json", *signer)
