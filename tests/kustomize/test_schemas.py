"""Everything rendered is valid for the Kubernetes versions supported, misspelt fields included."""

import pytest

from gitops.rules import schema

# The oldest supported, as `forest-gitops lint` has it, and the one that the proof on a real cluster runs.
VERSIONS = [schema.KUBERNETES, "1.34"]


@pytest.fixture
def invalid():
    """Return a function that tells what is wrong with an object, None if nothing is."""
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed: nothing to validate with"
    )

    def run(manifest, version):
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            return error.message
        return None

    return run


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_environments_are_valid(rendered, invalid, environment, version):
    objects = rendered(f"kustomize/overlays/{environment}").objects
    assert len(objects) > 10
    for each in objects:
        assert invalid(each, version) is None, each["metadata"]["name"]


@pytest.mark.parametrize("version", VERSIONS)
def test_components_are_valid(tree, overlay, render, invalid, version):
    file = overlay.folder(tree) / "kustomization.yaml"
    names = ["ingress", "nodeport", "loadbalancer", "log-volume", "registry-credentials", "training"]
    lines = "".join(f"  - ../../../components/{name}\n" for name in names)
    file.write_text(file.read_text().replace("components:\n", "components:\n" + lines))
    for each in render(overlay.folder(tree)).objects:
        assert invalid(each, version) is None, each["metadata"]["name"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_field_and_a_wrong_type_are_seen(manifests, invalid, version):
    deployment = manifests.one("Deployment")
    wrong = {**deployment, "spec": {**deployment["spec"], "progressDeadlineSecond": 120}}
    assert "progressDeadlineSecond" in invalid(wrong, version)
    wrong = {**deployment, "spec": {**deployment["spec"], "progressDeadlineSeconds": "120"}}
    assert "120" in invalid(wrong, version)
