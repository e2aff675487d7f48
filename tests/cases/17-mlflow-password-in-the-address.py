"""A tracking server that wants a password, given as MLflow takes it: http://user:password@host:port, or
MLflow's variables; also a self-signed https server. The server answers only what shows whether it was asked.

Right: raydistill reaches what MLflow itself reaches with the same address and environment, says that this is
no MLflow server before anything is trained (exit code 2), refuses a wrong password, and prints no password.
"""

import base64
import http.server
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

WORK = Path(os.environ.get("WORK") or tempfile.mkdtemp())
COMMAND = os.environ.get("RAYDISTILL", "raydistill")
USER = {"MLFLOW_TRACKING_USERNAME": "user", "MLFLOW_TRACKING_PASSWORD": "the-password"}
asked: list[bool] = []
"""Of each request whether it had the password."""


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(b"user:the-password").decode()
        asked.append(self.headers.get("Authorization") == expected)
        answer = {"experiments": [], "error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
        body = json.dumps(answer if asked[-1] else {}).encode()
        self.send_response(401 if not asked[-1] else 200 if "search" in self.path else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        pass


def served() -> http.server.ThreadingHTTPServer:
    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)


def is_right(uri: str, has_password: bool, **environment: str) -> bool:
    asked.clear()
    command = [COMMAND, "sweep", "--store", str(WORK / "store"), "--mlflow", uri, "--trials", "1"]
    command += ["--seconds-per-image", "0.01"]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=300)
    said = run.stdout + run.stderr
    right = (
        run.returncode == 2
        and "the tracking store cannot be used" in run.stderr
        and "the-password" not in said
        and "wrong-one" not in said
        and bool(asked)
        and any(asked) == has_password
        and not list(WORK.glob("store/sweeps/*"))
    )
    print("right" if right else "WRONG", run.returncode, said.strip().splitlines()[-1:], asked)
    return right


plain, tls = served(), served()
names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
files = ["-keyout", str(WORK / "key.pem"), "-out", str(WORK / "cert.pem")]
make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *names]
subprocess.run(make, capture_output=True, check=True)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(WORK / "cert.pem", WORK / "key.pem")
tls.socket = context.wrap_socket(tls.socket, server_side=True)
for server in (plain, tls):
    threading.Thread(target=server.serve_forever, daemon=True).start()
results = [
    is_right(f"http://user:the-password@127.0.0.1:{plain.server_port}", True),
    is_right(f"http://user:wrong-one@127.0.0.1:{plain.server_port}", False),
    is_right(f"https://127.0.0.1:{tls.server_port}", True, MLFLOW_TRACKING_INSECURE_TLS="true", **USER),
    is_right(
        f"https://127.0.0.1:{tls.server_port}",
        True,
        MLFLOW_TRACKING_SERVER_CERT_PATH=str(WORK / "cert.pem"),
        **USER,
    ),
]
sys.exit(int(not all(results)))
