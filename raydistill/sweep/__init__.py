"""One sweep from its first check to its report."""

import os

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # what fails is tried again by `sweep.tracker`; MLflow alone would try for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""MLflow's environment variables, where the user has set no other value."""
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)
