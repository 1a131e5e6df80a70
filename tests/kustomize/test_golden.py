"""What really changes in a cluster is seen in a review: rendered manifests are kept, and compared.

`make golden` writes them anew.
"""

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def golden(request, tree, overlays, promote_first, render):
    """Every golden file's name, and what it should hold.

    A model that is in staging alone has one of prod as well, as its first promotion will bring it there: so
    that is seen in the review of the model, and the promotion changes no golden file either.
    """
    for model in sorted(
        {each.model for each in overlays} - {each.model for each in overlays if each.environment == "prod"}
    ):
        promote_first(model)
        overlays = [*overlays, overlays[0]._replace(environment="prod", model=model)]
    sample = (Path(__file__).parent / "sample-release.yaml").read_text()
    for overlay in overlays:
        (overlay.folder(tree) / "release" / "kustomization.yaml").write_text(sample)
    folders = {f"{each.environment}-{each.model}.yaml": each.folder(tree) for each in overlays}
    for environment in sorted({each.environment for each in overlays}):
        folders[f"{environment}-namespaces.yaml"] = tree / "kustomize" / "namespaces" / environment
    folders |= {f"{folder.name}.yaml": folder for folder in (tree / "kustomize" / "apps").iterdir()}
    folders["argocd.yaml"] = ROOT / "argocd"
    texts = {name: render(folder).text for name, folder in folders.items()}
    if request.config.getoption("--refresh-golden", default=False):
        for file in GOLDEN.glob("*"):
            file.unlink()
        for name, text in texts.items():
            (GOLDEN / name).write_text(text)
    return texts


def test_golden_files_are_what_the_tree_renders_to(golden):
    kept = {file.name: file.read_text() for file in GOLDEN.glob("*")}
    assert sorted(kept) == sorted(golden), "run `make golden`, and look at the difference"
    for name, text in golden.items():
        assert text == kept[name], f"{name}: run `make golden`, and look at the difference"


def test_a_promotion_changes_no_golden_file(golden, overlays):
    for overlay in overlays:
        text = golden[f"{overlay.environment}-{overlay.model}.yaml"]
        assert "registry.example/forest/model:1.2.3-4.5.6@sha256:1111" in text
        assert "value: sha256:2222" in text
        released = (overlay.folder() / "release" / "kustomization.yaml").read_text()
        digests = [line.split()[-1] for line in released.splitlines() if "sha256:" in line]
        assert len(digests) == 2
        assert not [digest for digest in digests if digest in text]
