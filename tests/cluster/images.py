"""The images of the proof: built as `make image` builds them, and pushed to the registry."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from gitops.release import Release
from model_bundle.bundle import read_manifest
from tests import image_builder
from tests.cluster.node.place import CACHE
from tests.cluster.setting import Setting

_STORE = CACHE / "images"


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image in the registry, and the release of it.

    Attributes
    ----------
    release : Release
        As nodes pull it, by digest; with the digest of the bundle that it is said to hold.
    bundle : Path
        The folder of the bundle that it is said to hold, ``…/MODEL/VERSION``.
    """

    release: Release
    bundle: Path

    @property
    def options(self) -> tuple[str, ...]:
        """What ``forest-gitops release MODEL`` is told of it."""
        release = self.release
        return (
            release.version,
            f"--image={release.image}",
            f"--digest={release.digest}",
            f"--bundle={self.bundle}",
            f"--server-version={release.server_version}",
        )


class Images:
    """Builds images and pushes them."""

    def __init__(self, setting: Setting, folder: Path):
        self._setting = setting
        self._folder = folder
        self._env = image_builder.prepare(_STORE)
        self._variables = image_builder.settings(folder)
        if setting.base:
            del self._variables["BUILDER"]
            self._variables["BASE"] = setting.base

    def build(self, bundle: Path, *, said: Path | None = None, last: str = "") -> Pushed:
        """Build the image of a bundle, and push it.

        Parameters
        ----------
        bundle : Path
            The bundle that is baked in.
        said : Path, optional
            The bundle that the release says is baked in, if that is not true.
        last : str, optional
            More lines of a Dockerfile, which spoil the image.
        """
        model, version = bundle.parent.name, bundle.name
        context = image_builder.write_context(
            self._folder / f"context-{len(list(self._folder.iterdir()))}", bundle
        )
        name = image_builder.run(
            "make", "--no-print-directory", "image", f"MODEL={model}", f"VERSION={version}", "ENGINE=buildah",
            # Staging is traced.
            "EXTRA=traces", *(f"{key}={value}" for key, value in self._variables.items()),
            env=self._env, cwd=context,
        ).splitlines()[-3]  # fmt: skip
        if last:
            spoilt = self._folder / "spoilt"
            spoilt.mkdir(exist_ok=True)
            (spoilt / "Dockerfile").write_text(f"FROM {name}\n{last}\n")
            # The same digest each time: a tag stands for one image only.
            image_builder.run(
                "buildah", "build", "--quiet", "--timestamp=0", f"--tag={name}", spoilt, env=self._env
            )
        shutil.rmtree(context)
        tag = name.rpartition(":")[2]
        digest = self.push(name, f"{model}:{tag}")
        _, bundle_digest = read_manifest(said or bundle)
        release = Release(self.repository(model), version, tag.partition("-")[2], digest, bundle_digest)
        return Pushed(release, said or bundle)

    def build_file(self, context: Path, file: Path, tag: str, *options: str) -> str:
        """Build another image, and return it as nodes pull it, by digest."""
        arguments = [f"--build-arg=BASE={self._variables['BASE']}"]
        if builder := self._variables.get("BUILDER"):
            arguments.append(f"--build-arg=BUILDER={builder}")
        secrets = [
            f"--secret=id={identity},src={self._variables[name]}"
            for identity, name in (("pip.conf", "PIP_CONF"), ("ca.pem", "CA"))
            if name in self._variables
        ]
        image_builder.run(
            "buildah", "build", "--quiet", "--layers", "--timestamp=0", *arguments, *secrets, *options,
            f"--file={file}", f"--tag=localhost/forest/{tag}", context, env=self._env,
        )  # fmt: skip
        digest = self.push(f"localhost/forest/{tag}", tag)
        return f"{self._setting.registry_in_cluster}/forest/{tag}@{digest}"

    def repository(self, model: str) -> str:
        """Return the repository of a model's images, as nodes pull them."""
        return f"{self._setting.registry_in_cluster}/forest/{model}"

    def push(self, name: str, tag: str) -> str:
        """Push an image to the registry, and return its digest."""
        digest = self._folder / "digest"
        image_builder.run(
            "buildah", "push", "--quiet", "--tls-verify=false", f"--digestfile={digest}", name,
            f"docker://{self._setting.registry}/forest/{tag}", env=self._env,
        )  # fmt: skip
        return digest.read_text().strip()

    def close(self) -> None:
        """Leave nothing mounted; what was built stays for the next time."""
        image_builder.release(_STORE)
