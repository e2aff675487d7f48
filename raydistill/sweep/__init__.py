"""One sweep from its first check to its report."""

import os

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # what fails is tried again by `sweep.tracker`; MLflow alone would try for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # else a line, with letters that not every terminal has, for each run that ends on a server
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow's environment variables, where the user has set no other value."""
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)
