"""Sign bundles at their release, and require signatures of what is pinned.

A signature lies in `environments/signatures/<digest>.json` and is merged with the pin.
"""

from __future__ import annotations

import os
from pathlib import Path

from mlops.base.environment import given
from mlops.base.errors import Refused, UserError, one_line
from mlops.base.files import folder_digest, whole_file
from mlops.contract.paths import not_found
from mlops.deploy.manifest import SIGNATURES, Signer
from mlops.pipeline.params import Params
from mlops.serving.signature import verify

KEY = "MLOPS_SIGNING_KEY"
# Of the key, where it has one.
UNLOCKS = "MLOPS_SIGNING_PASSWORD"


def file(digest: str) -> Path:
    """The signature's file of a bundle."""
    return SIGNATURES / f"{digest}.json"


def sign(params: Params, root: Path, folder: Path) -> str:
    """Sign the bundle in a folder as `release.sign` says; the outcome in a line.

    Raises UserError where that has no key or no credential.
    """
    if params.release.sign == "none":
        return "params.yaml: release.sign: none; nothing is signed"
    from model_signing.signing import Config

    if not (folder / "bundle.json").is_file():
        raise UserError(not_found(folder / "bundle.json"))
    digest, config = folder_digest(folder), Config()
    place = root / file(digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        if params.release.sign == "keyless":
            config.use_sigstore_signer(identity_token=_token())
        else:
            # The library hands the password on to one that expects bytes.
            password: object = given(os.environ, UNLOCKS).encode() or None
            config.use_elliptic_key_signer(private_key=_key(), password=password)  # type: ignore[arg-type]
        with whole_file(place) as partial:
            config.sign(folder, partial)
    except UserError:
        raise
    # Of cryptography, of Sigstore, or of the network.
    except Exception as error:
        raise UserError(f"release.sign: {params.release.sign}: {one_line(error)}") from None
    return f"bundle {digest[:12]} signed: {file(digest)}"


def sign_once(params: Params, root: Path, folder: Path) -> None:
    """Sign a bundle that has no signature yet, where `release.sign` says with what."""
    if params.release.sign != "none" and not (root / file(folder_digest(folder))).exists():
        sign(params, root, folder)


def require(root: Path, digest: str, signer: Signer | None) -> None:
    """Raise Refused unless a bundle has the signature that a manifest asks for, if it does."""
    if signer is None:
        return
    place = root / file(digest)
    if not place.is_file():
        cure = "`mlops sign` makes it at release, and `git pull` brings what was merged"
        raise Refused(f"{place}: not found; {cure}")
    key, trust = (name and str(root / name) for name in (signer.key, signer.trust))
    verify(digest, place, key, signer.identity, signer.issuer, trust)


def _key() -> Path:
    path = Path(given(os.environ, KEY) or "/dev/null/none")
    if not path.is_file():
        raise UserError(f"{KEY}: found {os.environ.get(KEY)!r}, expected a private key's file")
    return path


def _token() -> str:
    """The credential of this CI job; the library would open a browser where there is none."""
    from sigstore.oidc import detect_credential

    token = detect_credential()
    if token is None:
        raise UserError(
            "release.sign: keyless: found no OpenID Connect credential of a CI job; it needs "
            "`id-token: write` on GitHub; elsewhere sign with a key"
        )
    return token
