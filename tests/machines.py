"""Machines for tests: namespaces of this machine with a network, a host name, a home and an sshd each,
gone with their first process."""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

NEEDED = ("unshare", "nsenter", "mount", "ip", "sshd", "ssh", "ssh-keygen", "rsync", "pgrep", "bash")
SHARED = Path("/mnt")
"""Where every machine sees the test's folder: short, because paths of Unix sockets are."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLIENT = "10.77.0.254"

_ON_A_MACHINE = """
set -eu
hostname "machine-$1"
mount -t tmpfs ray /tmp/ray
mount -t tmpfs run /run
mkdir /run/sshd
mount --bind "/mnt/machine-$1/passwd" /etc/passwd
until ip link show eth0 > /dev/null 2>&1; do sleep 0.1; done
ip link set lo up
ip addr add "10.77.0.$1/24" dev eth0
ip link set eth0 up
ip route add default via 10.77.0.254
exec "$2" -D -e -f /mnt/sshd_config 2> "/mnt/machine-$1/sshd.log"
"""
_ALL = """
set -eu
mount --bind "$1" /mnt
mount --bind /mnt/client/passwd /etc/passwd
mount --bind /mnt/hosts /etc/hosts
mkdir -p /tmp/ray
mount -t tmpfs ray /tmp/ray
ip link set lo up
ip link add name machines type bridge
ip addr add 10.77.0.254/24 dev machines
ip link set machines up
for number in $(seq "$2"); do
  unshare --net --mount --uts --pid --fork --mount-proc bash -c "$3" machine "$number" "$4" &
  until [ -s "/mnt/machine-$number/pid" ]; do
    cat /proc/$!/task/$!/children > "/mnt/machine-$number/pid"; sleep 0.1
  done
  ip link add name "machine$number" type veth peer name eth0 netns $!
  ip link set "machine$number" master machines up
  until (exec 3<> "/dev/tcp/10.77.0.$number/22") 2> /dev/null; do kill -0 $!; sleep 0.1; done
done
echo ready
exec sleep infinity
"""


def missing() -> str | None:
    """What this machine lacks to make such machines; None: nothing."""
    if os.geteuid() != 0:
        return "needs root (namespaces)"
    if absent := [name for name in NEEDED if shutil.which(name) is None]:
        return f"needs {', '.join(absent)}"
    probe = [
        "unshare",
        "--net",
        "--pid",
        "--mount",
        "--uts",
        "--fork",
        "mount",
        "-t",
        "tmpfs",
        "probe",
        "/mnt",
    ]
    allowed = subprocess.run(probe, capture_output=True, text=True)
    return None if allowed.returncode == 0 else f"may not make namespaces: {allowed.stderr.strip()}"


class Machines:
    """`10.77.0.1` (home `/mnt/machine-1`), `.2` ... and the client, which has a home and an empty folder,
    too."""

    def __init__(self, folder: Path, pid: int):
        self.folder, self.pid = folder, pid

    def on_client(self, command: str, timeout: float = 600, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a bash command in the client's folder; standard error goes with standard output."""
        return self._run(self.pid, "client", command, timeout, env)

    def on_machine(
        self, number: int, command: str, timeout: float = 600, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a bash command in the home of a machine, as its queue would."""
        inner = int((self.folder / f"machine-{number}/pid").read_text())
        return self._run(
            self.pid,
            f"machine-{number}",
            command,
            timeout,
            {**env, "INNER": f"--target={inner} --net --mount --uts --pid"},
        )

    def _run(
        self, pid: int, home: str, command: str, timeout: float, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        folder = f"/mnt/{home}/work" if home == "client" else f"/mnt/{home}"
        inner = 'exec ${INNER:+nsenter $INNER} bash -c \'cd "$FOLDER" && eval "$COMMAND"\''
        enter = ["nsenter", "--target", str(pid), "--net", "--mount", "--pid", "bash", "-c", inner]
        base = {
            "HOME": f"/mnt/{home}",
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "TMPDIR": f"/mnt/{home}",
            "FOLDER": folder,
            "COMMAND": command,
        }
        return subprocess.run(
            enter,
            env={**base, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )


@contextlib.contextmanager
def machines(folder: Path, number: int) -> Iterator[Machines]:
    """Starts `number` machines that see `folder` as /mnt; ends them, and every process on them."""
    _prepare(folder, number)
    sshd = shutil.which("sshd") or ""
    arguments = ["bash", "-c", _ALL, "all", str(folder), str(number), _ON_A_MACHINE, sshd]
    unshare = ["unshare", "--net", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child", *arguments]
    with subprocess.Popen(unshare, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n", (
                "the machines did not start"
            )
            first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
            yield Machines(folder, int(first))
        finally:
            process.kill()  # --kill-child: the first process of the namespace, and so all of them


def _prepare(folder: Path, number: int) -> None:
    key = folder / "client/.ssh/id_ed25519"
    key.parent.mkdir(parents=True)
    (folder / "client/work").mkdir()
    for path in (key, folder / "hostkey"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    shutil.copy(f"{key}.pub", folder / "authorized_keys")
    (folder / "sshd_config").write_text(
        textwrap.dedent("""\
        HostKey /mnt/hostkey
        AuthorizedKeysFile /mnt/authorized_keys
        StrictModes no
        UsePAM no
        PasswordAuthentication no
        PermitRootLogin prohibit-password
        MaxSessions 50
        """)
    )
    names = {f"10.77.0.{count}": f"machine-{count}" for count in range(1, number + 1)}
    (folder / "hosts").write_text(
        "".join(
            f"{ip} {name}\n" for ip, name in {"127.0.0.1": "localhost", _CLIENT: "client", **names}.items()
        )
    )
    for name in (*names.values(), "client"):  # ssh finds a home there, whatever HOME says
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "passwd").write_text(
            f"root:x:0:0:root:{SHARED / name}:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
        )


def bare_environment(folder: Path) -> None:
    """A virtual environment with the packages of this one, and without raydistill: links, made in a second.

    `folder` may be moved: its scripts find their Python beside them.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    found = [
        Path(path)
        for path in (sysconfig.get_path("purelib"), *sys.path)
        if path.endswith(("site-packages", "dist-packages"))
    ]
    for package in (package for place in found if place.is_dir() for package in place.iterdir()):
        ours = package.name.split("-")[0] in (
            "raydistill",
            "search_spaces",
            "analysis",
        ) or package.name.startswith("__editable__")
        if not (ours or package.suffix == ".pth" or (site / package.name).exists()):
            (site / package.name).symlink_to(package)
    for name, module in (("ray", "ray.scripts.scripts"), ("pip", "pip._internal.cli.main")):
        script = folder / "bin" / name
        script.write_text(
            f'#!/bin/sh\nexec "${{0%/*}}/python" -c "import sys; from {module} import main; '
            'sys.exit(main())" "$@"\n'
        )
        script.chmod(0o755)
