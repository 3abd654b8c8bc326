# The service as an image. Targets: cpu, gpu (the service), training (torch; for jobs and Dask workers, never served).
#   docker build --target cpu -t surrogate:cpu .
# The digest: docker buildx imagetools inspect python:3.11-slim-bookworm
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:2e32f7d302adc1c37428355c1e646897c0c53f4fd60b6a551245fb90ee129f91

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/venv

# Compiled here, as the root is read-only later; not by time, which a reproducible build sets to zero.
FROM ${PYTHON_IMAGE} AS source
WORKDIR /app
COPY models models
COPY api api
RUN python -m compileall -q --invalidation-mode unchecked-hash models api

FROM ${PYTHON_IMAGE} AS service
ARG VERSION=0.1.0 REVISION=unknown SOURCE=unknown LICENSES=NOASSERTION
LABEL org.opencontainers.image.title="Surrogates of physical models" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="${LICENSES}"
# BLAS threads would compete with those of ONNX Runtime, which reports to its makers unless told not to; matplotlib
# keeps a list of fonts
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONFAULTHANDLER=1 \
    MALLOC_ARENA_MAX=2 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
    MPLCONFIGDIR=/tmp/matplotlib ORT_DISABLE_TELEMETRY=1 \
    SURROGATE_HOST=0.0.0.0 SURROGATE_PORT=8080 SURROGATE_REVISION=${REVISION}
COPY --from=source /app /app
WORKDIR /app
USER 10001:10001
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "api"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]

FROM build AS build-cpu
COPY .ci/image/requirements-cpu.txt /requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --quiet --require-hashes --no-deps --only-binary :all: --no-compile \
        -r /requirements.txt \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM service AS cpu
COPY --from=build-cpu /opt/venv /opt/venv

# CUDA 13 and cuDNN 9 come as wheels; only the driver (580 or newer) is the node's.
FROM build AS build-gpu
COPY .ci/image/requirements-gpu.txt /requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --quiet --require-hashes --no-deps --only-binary :all: --no-compile \
        -r /requirements.txt \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM service AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility SURROGATE_DEVICE=cuda
COPY --from=build-gpu /opt/venv /opt/venv

# torch brings a file in the syntax of a newer Python.
FROM build AS build-training
COPY .ci/image/requirements-training.txt /requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --quiet --require-hashes --no-deps --only-binary :all: --no-compile \
        -r /requirements.txt \
    && python -m compileall -q -x py312_intrinsics --invalidation-mode unchecked-hash /opt/venv/lib

FROM service AS training
COPY --from=build-training /opt/venv /opt/venv
COPY training training
ENTRYPOINT ["python", "-m", "training"]
HEALTHCHECK NONE
