"""A release pins an image and a bundle; a revert brings back the very same bytes."""

import re
import subprocess

import yaml

SHA256 = r"sha256:[0-9a-f]{64}"


def _release_file(overlay, *root):
    return overlay.folder(*root) / "release" / "kustomization.yaml"


def _other_release(text):
    """Return the file of another release: another tag, and each digest another."""
    text = re.sub(r'newTag: ".*"', 'newTag: "9.1.0-9.2.0"', text)
    return re.sub(SHA256, lambda found: "sha256:" + found[0][7:][::-1], text)


def test_a_release_file_has_one_form(overlay):
    text = _release_file(overlay).read_text()
    assert text.startswith("# forest-gitops writes this file")
    release = yaml.safe_load(text)
    assert list(release) == ["apiVersion", "kind", "images", "patches"]
    (image,), (patch,) = release["images"], release["patches"]
    assert list(image) == ["name", "newName", "newTag", "digest"]
    assert image["name"] == "forest"
    assert re.fullmatch(r"\d+\.\d+\.\d+-\d+\.\d+\.\d+", image["newTag"]), "text, and no latest"
    assert patch["target"] == {"kind": "Deployment"}
    spec = yaml.safe_load(patch["patch"])["spec"]["template"]["spec"]
    ((name, (variable,)),) = [tuple(each.values()) for each in spec.pop("containers")]
    assert not spec
    assert (name, variable["name"]) == ("server", "FOREST_BUNDLE_DIGEST")


def test_a_release_reaches_the_pod(overlay, manifests):
    image = yaml.safe_load(_release_file(overlay).read_text())["images"][0]
    (server,) = manifests.one("Deployment")["spec"]["template"]["spec"]["containers"]
    assert server["name"] == "server"
    assert server["image"] == f"{image['newName']}:{image['newTag']}@{image['digest']}"
    assert re.fullmatch(SHA256, image["digest"])
    (variable,) = server["env"]
    assert variable["name"] == "FOREST_BUNDLE_DIGEST"
    assert re.fullmatch(SHA256, variable["value"])


def test_a_revert_renders_to_the_very_same_bytes(overlay, tree, render):
    def git(*arguments):
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tree), *identity, *arguments], check=True, capture_output=True)

    git("init", "--initial-branch=main")
    git("add", ".")
    git("commit", "-m", "A first release")
    before = render(overlay.folder(tree)).text

    file = _release_file(overlay, tree)
    file.write_text(_other_release(file.read_text()))
    git("commit", "-am", "Promote")
    promoted = render(overlay.folder(tree))
    assert "9.1.0-9.2.0" in promoted.text

    base = tree / "kustomize" / "base" / "kustomization.yaml"
    base.write_text(base.read_text().replace("FOREST_STOP_GRACE=10", "FOREST_STOP_GRACE=12"))
    git("commit", "-am", "Change a setting")
    config_maps = [each.one("ConfigMap") for each in (promoted, render(overlay.folder(tree)))]
    assert config_maps[0]["metadata"]["name"] != config_maps[1]["metadata"]["name"]

    git("revert", "--no-edit", "HEAD")
    assert render(overlay.folder(tree)).text == promoted.text, "the ConfigMap is back under its old name"
    git("revert", "--no-edit", "HEAD~2")
    assert render(overlay.folder(tree)).text == before


def test_a_release_changes_the_image_and_the_digest_and_nothing_else(overlay, tree, render):
    before = render(overlay.folder(tree)).text.splitlines()
    file = _release_file(overlay, tree)
    file.write_text(_other_release(file.read_text()))
    after = render(overlay.folder(tree)).text.splitlines()
    assert len(before) == len(after)
    changed = [new.split()[0] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["value:", "image:"]
