"""What the API server would refuse, or silently drop: misspelt fields, wrong types, unknown kinds."""

import json
from collections.abc import Iterator
from typing import Any

from gitops import manifests
from gitops.error import GitopsError
from gitops.manifests import Manifest
from gitops.tree import Tree

# The oldest Kubernetes supported: what it knows, the newer ones know too.
KUBERNETES = "1.31"
# Kinds of others, for which there are no schemas here: the cluster's own decide, when Argo CD applies them.
OTHERS = {
    ("gateway.networking.k8s.io/v1", "GRPCRoute"),
    ("external-secrets.io/v1", "ExternalSecret"),
}


def schema_valid(tree: Tree) -> Iterator[str]:
    """Every object is valid for the oldest Kubernetes supported, with no field that it does not know."""
    try:
        import kubernetes_validate  # noqa: PLC0415 - heavy, and no other command needs it
    except ModuleNotFoundError as error:
        raise GitopsError("kubernetes-validate is absent: install forest-serving[gitops]") from error
    valid = set()
    for place, model, item in _objects(tree):
        # Most objects of two models differ by the model's name alone, and a schema takes its time.
        form = json.dumps(item, sort_keys=True, default=str).replace(model, "MODEL")
        kind = item.get("apiVersion"), item.get("kind")
        if kind in OTHERS or form in valid:
            continue
        where = f"{place}: {manifests.name(item)}"
        try:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
            valid.add(form)
        except kubernetes_validate.SchemaNotFoundError:
            yield (
                f"{where}: Kubernetes {KUBERNETES} has no {kind[1]} in {kind[0]}: mend whichever is misspelt "
                "or outdated; a kind that an operator brings is named in gitops/rules/schema.py"
            )
        except kubernetes_validate.ValidationError as error:
            field = ".".join(str(step) for step in error.absolute_path)
            yield (
                f"{where}: {field or 'the object'}: {error.message}, says the schema of Kubernetes "
                f"{KUBERNETES}: mend the field's name, place or type"
            )


def _objects(tree: Tree) -> Iterator[tuple[str, str, Manifest]]:
    """Yield place, model and object: those of the overlays, then what environments have besides."""
    seen: list[Any] = []
    for overlay in (*tree.overlays, *tree.apps):
        for item in overlay.manifests:
            seen.append(item)
            yield str(overlay.folder), overlay.model, item
    for environment, found in tree.environments.items():
        for item in found:
            if item not in seen:
                yield f"kustomize/overlays/{environment}", environment, item
