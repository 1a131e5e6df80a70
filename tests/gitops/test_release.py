from collections.abc import Callable
from dataclasses import replace

import pytest

from gitops.error import GitopsError
from gitops.release import Release

FILE = """\
# forest-gitops writes this file (release, promote, rollback): it is not edited by hand.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
images:
  - name: forest
    newName: registry.example/forest/fraud
    newTag: "1.2.0-0.3.1"
    digest: sha256:1200310000000000000000000000000000000000000000000000000000000000
patches:
  - target:
      kind: Deployment
    patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata:
        name: forest
      spec:
        template:
          spec:
            containers:
              - name: server
                env:
                  - name: FOREST_BUNDLE_DIGEST
                    value: sha256:120fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
"""


def test_the_file_is_these_bytes_and_reads_back(release_of: Callable[..., Release]) -> None:
    release = release_of("1.2.0", "0.3.1")
    assert release.to_bytes().decode() == FILE
    assert Release.from_bytes(FILE.encode(), "here") == release


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"1.2.0-0.3.1"', "1.2.0-0.3.1"),
        ('"1.2.0-0.3.1"', '"latest"'),
        ('"1.2.0-0.3.1"', '"1.2-0.3.1"'),
        ('"1.2.0-0.3.1"', '"1.2.0-0.3.1-rc"'),
        ("name: server", "name: serve"),
        ("digest: sha256:1", "digest: sha256:g"),
        ("    digest: sha256:1", "    digest: sha256:"),
        ("  - name: forest", "  - name: florest"),
        ("\n", "\r\n"),
        ("images:\n", "replicas: []\nimages:\n"),
    ],
)
def test_a_file_with_any_other_byte_is_refused_by_its_place(before: str, after: str) -> None:
    assert before in FILE
    with pytest.raises(GitopsError, match=r"^the/place"):
        Release.from_bytes(FILE.replace(before, after).encode(), "the/place")


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("image", "registry.example/forest/fraud:1.0.0", "without tag and digest"),
        ("image", "registry.example/forest/fraud@sha256:00", "without tag and digest"),
        ("image", "Registry/Fraud", "is not a repository"),
        ("image", "fraud", "is not a repository"),
        ("digest", "sha256:" + "A" * 64, "image digest 'sha256:AAAA"),
        ("bundle", "0" * 64, "bundle digest '0000"),
        ("version", "1.0", "bundle version '1.0'"),
        ("server_version", "latest", "server version 'latest'"),
    ],
)
def test_what_cannot_be_a_release_is_refused(
    field: str, value: str, fault: str, release_of: Callable[..., Release]
) -> None:
    with pytest.raises(GitopsError, match=fault):
        replace(release_of(), **{field: value})


def test_an_image_with_a_port_is_a_repository(release_of: Callable[..., Release]) -> None:
    release = replace(release_of(), image="127.0.0.1:5000/forest/credit-card_v2")
    assert Release.from_bytes(release.to_bytes(), "here") == release
    assert release.reference.startswith("127.0.0.1:5000/forest/credit-card_v2:1.0.0-0.1.0@sha256:")
