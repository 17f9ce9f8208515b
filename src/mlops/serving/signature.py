"""Signatures of bundles in the format of OpenSSF Model Signing, verified before bytes are used.

A signature signs the list of a bundle's files with their SHA-256. The bundle's digest is made of
that very list, so a signature is verified against the digest, wherever the files are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.errors import Refused, one_line
from mlops.base.files import digest_of

if TYPE_CHECKING:
    from model_signing.manifest import Manifest


def verify(
    digest: str, file: Path, key: str | None, identity: str | None, issuer: str | None,
    trust: str | None,
) -> None:  # fmt: skip
    """Raise Refused unless a file is the signature of the bundle with this digest.

    It must be by the private key of the public `key`, or else by `identity`, as `issuer` knew it
    and Sigstore certified it: the public instance, or the one of the trust configuration `trust`.
    """
    signer = key or f"{identity} of {issuer}"
    try:
        signed = _by_key(file, key) if key else _by_identity(file, identity, issuer, trust)
        files = {item.identifier: item.digest.digest_hex for item in signed.resource_descriptors()}
    # A file of somebody's: whatever fails in reading it, it is no signature.
    except Exception as error:
        reason = "not found" if isinstance(error, FileNotFoundError) else one_line(error)
        place = getattr(error, "filename", None) or file
        raise Refused(f"{place}: expected a signature by {signer}: {reason}") from None
    if digest_of(files) != digest:
        raise Refused(f"{file}: signs bundle {digest_of(files)[:12]}, found {digest[:12]}")


# The library's own functions compare files, which are not at hand where a pin is judged.
def _by_key(file: Path, key: str) -> Manifest:
    from model_signing._signing import sign_ec_key, sign_sigstore_pb

    return sign_ec_key.Verifier(Path(key)).verify(sign_sigstore_pb.Signature.read(file))


def _by_identity(
    file: Path, identity: str | None, issuer: str | None, trust: str | None
) -> Manifest:
    from model_signing._signing import sign_sigstore

    signature = sign_sigstore.Signature.read(file)
    config = Path(trust) if trust else None
    verifier = sign_sigstore.Verifier(
        identity=identity or "", oidc_issuer=issuer or "", trust_config=config
    )
    return verifier.verify(signature)
