# One image for every process: the worker by default, `periodiq callbacks`, `callbacks web`.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.txt setup.cfg pyproject.toml README.md LICENSE pytest_callbacks.py ./
COPY callbacks callbacks
RUN python -m venv /opt/callbacks && /opt/callbacks/bin/pip install --no-cache-dir -r requirements.txt

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin callbacks
COPY --from=build /opt/callbacks /opt/callbacks
ENV PATH=/opt/callbacks/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
# Whether the settings are valid and Redis answers. A worker that hangs ends by itself.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s CMD ["callbacks", "status", "--json"]
# SIGTERM: what was not begun is given back, and requests end, within 22 seconds.
STOPSIGNAL SIGTERM
CMD ["dramatiq", "callbacks", "--processes", "2", "--threads", "64", "--worker-shutdown-timeout", "11000"]
