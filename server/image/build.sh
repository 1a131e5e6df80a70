#!/bin/sh
# Builds the image of one bundle with docker, podman or buildah, whichever is there, and its SBOM beside it in build/.
# Settings are variables: MODEL and VERSION; EXTRA, BASE, BUILDER, IMAGE, ENGINE, PIP_CONF and CA if wanted (docs/image.md).
# With TARGET=export it is the image that makes bundles (docs/training.md), of no model.
set -eu
cd "$(dirname "$0")/../.."

fail() {
    echo "make image: $*" >&2
    exit 1
}

server=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
if [ "${TARGET:-}" = export ]; then
    image=${IMAGE:-localhost/forest-serving/export}:$server
else
    [ -n "${MODEL:-}" ] && [ -n "${VERSION:-}" ] || fail "which bundle? make image MODEL=fraud VERSION=1.0.0"
    manifest=models/$MODEL/$VERSION/manifest.json
    [ -f "$manifest" ] || fail "no $manifest: make the bundle with forest-export $MODEL --version $VERSION"
    tag=$VERSION-$server
    image=${IMAGE:-localhost/forest-serving/$MODEL}:$tag
fi

if [ -z "${ENGINE:-}" ]; then
    # A docker command without its daemon is no engine.
    if docker info >/dev/null 2>&1; then
        ENGINE=docker
    elif command -v podman >/dev/null; then
        ENGINE=podman
    elif command -v buildah >/dev/null; then
        ENGINE=buildah
    else
        fail "neither docker (with its daemon running), podman nor buildah is here: install one of them"
    fi
fi

# The same inputs give the same layers, as far as the engine allows: no time of the build gets in.
case $ENGINE in
docker) set -- docker build --build-arg SOURCE_DATE_EPOCH=0 ;;
podman) set -- podman build --layers --timestamp 0 ;;
buildah) set -- buildah build --layers --timestamp 0 ;;
*) fail "ENGINE is $ENGINE, but must be docker, podman or buildah" ;;
esac
set -- "$@" --build-arg "SERVER_VERSION=$server"
[ -z "${BASE:-}" ] || set -- "$@" --build-arg "BASE=$BASE"
[ -z "${EXTRA:-}" ] || set -- "$@" --build-arg "EXTRA=$EXTRA"
[ -z "${BUILDER:-}" ] || set -- "$@" --build-arg "BUILDER=$BUILDER"
[ -z "${PIP_CONF:-}" ] || set -- "$@" --secret "id=pip.conf,src=$PIP_CONF"
[ -z "${CA:-}" ] || set -- "$@" --secret "id=ca.pem,src=$CA"

if [ "${TARGET:-}" = export ]; then
    "$@" --target export --tag "$image" .
    echo "$image"
    exit
fi

# As many as have this folder with its times make the same image of it. Before 2000 is no time.
created=$(date -u -r "$manifest" +%Y-%m-%dT%H:%M:%SZ)
case $created in
19*) ;;
*) set -- "$@" --build-arg "CREATED=$created" --label "org.opencontainers.image.created=$created" ;;
esac

digest=sha256:$(sha256sum "$manifest" | cut -d ' ' -f 1)
sbom=build/$MODEL-$tag.sbom.json
set -- "$@" --build-arg "MODEL=$MODEL" --build-arg "VERSION=$VERSION" --build-arg "BUNDLE_DIGEST=$digest"
"$@" --tag "$image" .
# A second build, of which nothing is left to do but to write the file.
"$@" --quiet --target sbom --output type=local,dest=build/sbom . >/dev/null
mv build/sbom/sbom.json "$sbom"
rmdir build/sbom

echo "$image"
echo "bundle $digest"
echo "SBOM   $sbom"
