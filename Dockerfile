# The operator's image: docker build --tag mailsettings-operator:dev .
# The base needs Python 3.11 or newer with pip; another registry's, or one of your own, goes in by
# --build-arg BASE_IMAGE=...
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore

# First what seldom changes: exactly the locked packages, in an environment that has no pip of its own.
COPY requirements.lock requirements-dev.lock ./
RUN python3 -m venv --without-pip /opt/mailsettings \
 && python3 -m pip --python /opt/mailsettings/bin/python install --require-hashes -r requirements.lock

# What builds the wheel is locked among the development tools, and stays in this stage.
RUN python3 -m venv --without-pip /opt/build \
 && python3 -m pip --python /opt/build/bin/python install --require-hashes -r requirements-dev.lock
COPY pyproject.toml README.md ./
COPY operator operator
RUN /opt/build/bin/hatchling build --target wheel --directory /tmp/wheel \
 && python3 -m pip --python /opt/mailsettings/bin/python install --no-deps --no-index /tmp/wheel/*.whl

FROM ${BASE_IMAGE}
COPY --from=build /opt/mailsettings /opt/mailsettings
# LOGNAME: kopf asks for the user's name, and this user has no entry in /etc/passwd.
ENV PATH=/opt/mailsettings/bin:$PATH LOGNAME=mailsettings PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["mailsettings-operator"]
CMD ["run"]
