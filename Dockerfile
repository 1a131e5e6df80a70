# The image of one bundle with the server: `make image MODEL=fraud VERSION=1.0.0`. docs/image.md says why it is so.
# The stage `export` is another image, which makes bundles: docs/training.md.
#
# BASE holds Python and the libraries of its system. BUILDER holds the same Python with pip and a shell; it may be
# left out where BASE has them. The image itself needs neither.
ARG BASE=docker.io/library/python:3.11-slim-bookworm
ARG BUILDER=${BASE}

FROM ${BUILDER} AS packages
ENV PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
# `traces` brings OpenTelemetry in; without it the server has no use for that.
ARG EXTRA=
COPY server/requirements*.txt /build/
# A package index of one's own, and who signed its certificate, are secrets of the build: no layer keeps them.
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    PIP_CONFIG_FILE=/run/secrets/pip.conf python3 -m pip install --quiet --require-hashes --no-deps \
    --only-binary=:all: --no-compile --report=/build/report.json --target=/opt/forest/packages \
    -r /build/requirements${EXTRA:+-$EXTRA}.txt
# What serving never loads. Of ONNX Runtime that is everything but its library: model_bundle/runtime.py calls it
# without the package's Python half.
RUN cd /opt/forest/packages \
    && find onnxruntime -type f ! -path onnxruntime/__init__.py ! -name 'libonnxruntime.so*' \
        ! -name LICENSE ! -name ThirdPartyNotices.txt -delete \
    && rm -rf bin numpy/distutils numpy/f2py \
    && find . -depth \( -type d -name tests -o -name '*.pyi' -o -name '*.pxd' -o -name '*.h' -o -name '*.a' \) \
        -exec rm -rf {} + \
    && find . -type d -empty -delete \
    && python3 -m compileall -q --invalidation-mode unchecked-hash . \
    && chmod -R a=rX,u+w . && find . -exec touch -hd @0 {} +

FROM packages AS build
ARG MODEL
ARG VERSION
ARG BUNDLE_DIGEST
ARG SERVER_VERSION
# When the bundle was made, as 2026-11-26T05:05:49Z; left out if nobody knows. Its files cannot tell: they have no time.
ARG CREATED=
COPY pyproject.toml server/image /build/
COPY server /opt/forest/app/server
COPY model_bundle /opt/forest/app/model_bundle
COPY clients/python/forest /opt/forest/app/forest
COPY clients/python/inference /opt/forest/app/inference
COPY models/${MODEL}/${VERSION} /models/${MODEL}/${VERSION}
# The bundle passes here, with these very packages, every check that the server will make when it starts.
RUN cd /opt/forest/app && rm -r server/requirements*.txt server/image \
    && python3 -m compileall -q --invalidation-mode unchecked-hash . \
    && { [ -z "$CREATED" ] || echo "$CREATED" > "/models/${MODEL}/${VERSION}.created"; } \
    && chmod -R a=rX,u+w /opt/forest/app /models \
    && find /opt/forest/app /models -exec touch -hd @0 {} + \
    && PYTHONPATH=/opt/forest/app:/opt/forest/packages ORT_DISABLE_TELEMETRY=1 \
        python3 /build/check.py "/models/${MODEL}/${VERSION}" \
    && PYTHONPATH=/opt/forest/app:/opt/forest/packages \
        python3 /build/sbom.py "/models/${MODEL}/${VERSION}" > /build/sbom.json

# `--target sbom --output` writes it beside the image.
FROM scratch AS sbom
COPY --from=build /build/sbom.json /

# What trains, and so cannot be small: scikit-learn with all that goes with it, by the lock of forest-export.
FROM ${BUILDER} AS export-packages
ENV PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
COPY model_export/requirements.txt /build/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    PIP_CONFIG_FILE=/run/secrets/pip.conf python3 -m pip install --quiet --require-hashes --no-deps \
    --only-binary=:all: --no-compile --target=/opt/forest/packages -r /build/requirements.txt
RUN cd /opt/forest/packages \
    && rm -rf bin onnx/backend/test \
    && find . -depth \( -type d -name tests -o -name '*.pyi' -o -name '*.pxd' -o -name '*.h' -o -name '*.a' \) \
        -exec rm -rf {} + \
    && find . -type d -empty -delete \
    && python3 -m compileall -q --invalidation-mode unchecked-hash . \
    && chmod -R a=rX,u+w . && find . -exec touch -hd @0 {} +

FROM export-packages AS export-build
COPY model_export /opt/forest/app/model_export
COPY model_bundle /opt/forest/app/model_bundle
RUN cd /opt/forest/app && rm model_export/requirements.txt \
    && python3 -m compileall -q --invalidation-mode unchecked-hash . \
    && chmod -R a=rX,u+w . && find . -exec touch -hd @0 {} +

FROM ${BASE} AS export
ARG BASE
ARG SERVER_VERSION
COPY --from=export-packages /opt/forest/packages /opt/forest/packages
COPY --from=export-build /opt/forest/app /opt/forest/app
# /tmp is the one place to write to besides the folder of models: for matplotlib's list of fonts, and for joblib.
ENV PYTHONPATH=/opt/forest/app:/opt/forest/packages \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    OPENBLAS_NUM_THREADS=1 \
    MPLCONFIGDIR=/tmp
LABEL org.opencontainers.image.title="Forest Serving: export" \
      org.opencontainers.image.description="Trains Random Forests, and writes their bundles: forest-export" \
      org.opencontainers.image.version="${SERVER_VERSION}" \
      org.opencontainers.image.base.name="${BASE}" \
      forest-serving.server-version="${SERVER_VERSION}"
USER 65532:65532
WORKDIR /
ENTRYPOINT ["python3", "-m", "model_export"]

# The last stage is what is built where none is named.
FROM ${BASE}
ARG BASE
ARG MODEL
ARG VERSION
ARG BUNDLE_DIGEST
ARG SERVER_VERSION
# What changes seldom comes first. Nothing runs in this stage: the base needs no shell.
COPY --from=packages /opt/forest/packages /opt/forest/packages
COPY --from=build /opt/forest/app /opt/forest/app
COPY --from=build /models /models
# Nothing writes a file, so the root may be read-only. The telemetry must be off before the library is loaded. The
# server scores one row at a time: more threads of OpenBLAS, one for each core of the node, would only cost memory.
# So would a heap of malloc's for each of gRPC's threads: docs/benchmarks.md, "Memory over time".
ENV PYTHONPATH=/opt/forest/app:/opt/forest/packages \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    OPENBLAS_NUM_THREADS=1 \
    MALLOC_ARENA_MAX=2 \
    FOREST_HOST=[::] \
    FOREST_MODELS=/models
LABEL org.opencontainers.image.title="Forest Serving: ${MODEL}" \
      org.opencontainers.image.description="A gRPC server of the Random Forest ${MODEL} ${VERSION}" \
      org.opencontainers.image.version="${VERSION}-${SERVER_VERSION}" \
      org.opencontainers.image.base.name="${BASE}" \
      forest-serving.model="${MODEL}" \
      forest-serving.version="${VERSION}" \
      forest-serving.bundle-digest="${BUNDLE_DIGEST}" \
      forest-serving.server-version="${SERVER_VERSION}"
USER 65532:65532
WORKDIR /
EXPOSE 50051 50052 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "-m", "server"]
