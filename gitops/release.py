"""A release: image, tag, image digest and bundle digest; and the file that holds one, byte for byte."""

import re
from dataclasses import dataclass

from gitops.error import GitopsError
from model_bundle.manifest import ManifestError, version_key

# The name of the image in kustomize/base, and of the container that runs it.
IMAGE = "forest"
CONTAINER = "server"
DIGEST_VARIABLE = "FOREST_BUNDLE_DIGEST"

_FILE = f"""\
# forest-gitops writes this file (release, promote, rollback): it is not edited by hand.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
images:
  - name: {IMAGE}
    newName: {{image}}
    newTag: "{{tag}}"
    digest: {{digest}}
patches:
  - target:
      kind: Deployment
    patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata:
        name: {IMAGE}
      spec:
        template:
          spec:
            containers:
              - name: {CONTAINER}
                env:
                  - name: {DIGEST_VARIABLE}
                    value: {{bundle}}
"""
_READ = re.compile(
    re.escape(_FILE)
    .replace(re.escape("{image}"), r"(?P<image>\S+)")
    .replace(re.escape("{tag}"), r"(?P<tag>[^\"\s]+)")
    .replace(re.escape("{digest}"), r"(?P<digest>\S+)")
    .replace(re.escape("{bundle}"), r"(?P<bundle>\S+)")
)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
# A registry with or without a port, then a path: what a reference is without its tag and digest.
_REPOSITORY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)+")


@dataclass(frozen=True, slots=True)
class Release:
    """What runs: an image by tag and digest, and the bundle that it must hold.

    Parameters
    ----------
    image : str
        The image's repository, without tag or digest.
    version, server_version : str
        The bundle's and the server's, each ``X.Y.Z``.
    digest, bundle : str
        The image's and the bundle's, each ``sha256:`` and 64 hexadecimal digits.

    Raises
    ------
    GitopsError
        If any of them has another form.
    """

    image: str
    version: str
    server_version: str
    digest: str
    bundle: str

    def __post_init__(self) -> None:
        if not _REPOSITORY.fullmatch(self.image):
            raise GitopsError(
                f"image {self.image!r} is not a repository such as registry.example/forest/fraud: give it "
                "without tag and digest, which have places of their own"
            )
        for name, digest in (("image digest", self.digest), ("bundle digest", self.bundle)):
            if not _SHA256.fullmatch(digest):
                raise GitopsError(f"{name} {digest!r} is not sha256: and 64 hexadecimal digits")
        for name, version in (("bundle", self.version), ("server", self.server_version)):
            try:
                version_key(version)
            except ManifestError as error:
                raise GitopsError(f"{name} {error}") from error

    @property
    def tag(self) -> str:
        """The image's tag: a server rebuilt is a new release of the same bundle."""
        return f"{self.version}-{self.server_version}"

    @property
    def pins(self) -> str:
        """What the release pins, as its commits' messages say it."""
        return f"Image: {self.reference}\nBundle: {self.bundle}"

    @property
    def reference(self) -> str:
        """The image as a pod names it."""
        return f"{self.image}:{self.tag}@{self.digest}"

    @property
    def order(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """What releases sort by: the bundle's version, then the server's."""
        return version_key(self.version), version_key(self.server_version)

    def to_bytes(self) -> bytes:
        """Return the release file, the same bytes for the same release."""
        return _FILE.format(image=self.image, tag=self.tag, digest=self.digest, bundle=self.bundle).encode()

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> "Release":
        """Read a release file; `place` is what errors call it.

        Raises
        ------
        GitopsError
            If it is not, byte for byte, what `to_bytes` writes.
        """
        found = _READ.fullmatch(data.decode(errors="replace"))
        if not found or found["tag"].count("-") != 1:
            raise GitopsError(
                f"{place} is not as forest-gitops writes it: bring back an earlier state of it with git, "
                "or write it anew with `forest-gitops release`"
            )
        version, server_version = found["tag"].split("-")
        try:
            return cls(found["image"], version, server_version, found["digest"], found["bundle"])
        except GitopsError as error:
            raise GitopsError(f"{place}: {error}") from error
