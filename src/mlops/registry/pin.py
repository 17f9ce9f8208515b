"""The pin: one released bundle, named by its digest, and where it comes from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

# Git's branch that keeps what is released where no DVC remote does.
BRANCH = "bundles"
DIGEST = r"^[0-9a-f]{64}$"


class Section(BaseModel):
    """A frozen part of a manifest that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Contents(Section):
    """DVC's own names (MD5 of a folder's listing) of what the digests speak of."""

    bundle: str = Field(pattern=r"^[0-9a-f]{32}\.dir$")
    evidence: str = Field(pattern=r"^[0-9a-f]{32}\.dir$")


class Pin(Section):
    """One bundle, by the digest of its bytes, and where it comes from."""

    model: str = Field(min_length=1, description="the registered model's name")
    version: int = Field(ge=1, description="its version in the registry that released it")
    digest: str = Field(pattern=DIGEST, description="SHA-256 of the bundle")
    evidence: str = Field(pattern=DIGEST, description="SHA-256 of its evidence")
    run: str = Field(pattern=r"^[\w-]+$", description="the MLflow run that made it")
    commit: str = Field(pattern=r"^[0-9a-f]{40}$", description="the Git commit that made it")
    data: str = Field(pattern=DIGEST, description="SHA-256 of the rows it was trained on")
    dvc: Contents
    metrics: dict[str, float] = Field(description="on its holdout")

    @property
    def short(self) -> str:
        """The pin in a few words."""
        return f"{self.model} {self.digest[:12]}"
