"""Goldens: what a user sees of this tree, as text, to prove that a change of the tree changed nothing else.

    python benchmarks/goldens.py record OUT [--only PART ...] [--jobs 2] [--keep]
    python benchmarks/goldens.py compare BEFORE AFTER [--show 40]

`record` runs the tree that holds this file, by the command line, in a temporary folder: tiny sweeps of every
search space, simulated sweeps by every sampler, plans, what the other commands print and write, help texts,
wrong input. `compare` says what is not the same in two records and is neither renamed (`RENAMES`), never the
same twice (`MASKS`), nor expected (`EXPECTED`); exit code 1 where there is any.

Scores, parameters, costs, fronts, curves, weights and pictures are compared to the bit: numbers are written
in full, weights and pixels as fingerprints. Records are comparable on one machine and in one environment.
"""

import argparse
import base64
import csv
import difflib
import fnmatch
import hashlib
import html
import importlib
import io
import itertools
import json
import math
import multiprocessing
import os
import pickle
import queue
import re
import runpy
import shlex
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# ---- what may differ ---------------------------------------------------------------------------------------

RENAMES: list[tuple[str, str]] = [
    (r"\b([Aa]) (?=[Jj]udge(?!d|ment))", r"\1n "),
    (r"(?<![a-z])judge(?!d|ment)", "evaluator"),
    (r"(?<![a-z])Judge(?!d|ment)", "Evaluator"),
    (r"(?<![\w/.])[Ff]rontier(?![\w/.]*\w)", "Pareto front"),
    (r"\b[Dd]earest\b", "most expensive"),
    (r"\b[Dd]earer\b", "more expensive"),
    (r"\bas dear\b", "as expensive"),
    (r"^(trials\[\d+\]|(?:trials/)?\d{4}[ /]trial)\.picked\b", r"\1.configuration"),
    (r"^(trials\[\d+\])\.again\b", r"\1.replicate_of"),
    (r"^(warm_start\.json\.rows\[\d+\])\.picked\b", r"\1.configuration"),
]
"""(pattern of the old word, new word), applied in order to the record before; more words are more lines here.
They are applied to the record after, too, where a line is not the same without: such lines still have an old
word, and are counted apart."""

EXPECTED: list[tuple[str, str, str]] = [
    (
        "*old-word*",
        r"^\+ (---- stderr|raydistill: .* is called .* now; the old name goes with the next release)$",
        "an old word is accepted for one release, with a line that says the new one",
    ),
    ("*/ledger.json", r"^\+ sweep\.json\.job_version = \d+$", "sweeps say the version of their jobs"),
    *(
        (f"sweeps/enhance/{name}", pattern, "a loss of weight 0 is neither computed nor logged")
        for name, pattern in (
            ("*", r"^- .*train/dissimilarity.*$"),
            ("ledger.json", r"^[+] trials/\d+/log\[\d+\] = .*$"),
            ("page.json", r"^[+-] data\.axes\[\d+\]\..*$"),
        )
    ),
]
"""(pattern of the file as PART/NAME, with * and ?, pattern of the line as `compare` prints it, why). A line
that is gone begins with "- ", a new one with "+ "; a file that is there once only is the line "- (file)" or
"+ (file)"."""

_NUMBER = r"[-+.\de]+"
MASKS: list[tuple[str, str, str]] = [
    (
        r"(?<![\w.])[0-9a-f]{64}(?!\w)",
        "<sha256>",
        "SHA-256 of files and configs, which have the names of fields",
    ),
    (r"(?<![\w.])(?:22)?[0-9a-f]{32}(?!\w)", "<id>", "runs of MLflow have random ids"),
    (
        r"(?<![\w.])[0-9a-f]{16}(?!\w)",
        "<digest>",
        "digests and trial keys, as above; ids of sweeps are random",
    ),
    (r"(?m)(?<![\w.])[0-9a-f]{12}\+?(?=[\"|, ]|$)", "<revision>", "git revision"),
    (r'("git_revision": )"[^"]*"', r'\1"<revision>"', "git revision"),
    (r'("version": )\d+', r'\1"<version>"', "the job's version may be raised"),
    (
        r'("(?:wall_sec|gpu_sec|created|spent_sec|load_average_before|cost/latency_ms_p\d+|time/[a-z_]+)": )'
        + _NUMBER,
        r'\1"<time>"',
        "time",
    ),
    (rf'("(?:peak_memory_gb|peak_mib)": ){_NUMBER}', r'\1"<memory>"', "memory"),
    (r"(?m)^ +\d+:\d\d(?=  )", "<clock>", "time since the start"),
    (
        r"(?m)^<clock>  (?:judge|evaluator|teacher): .*\n",
        "",
        "log lines, where seen in time; the ledger has all",
    ),
    (rf"\b(wall_sec=){_NUMBER}", r"\1<time>", "time, in logs"),
    (r"\b\d+ s(?=(; front:| of training))", "<time> s", "time of a training"),
    (r"about [\d.]+ min left", "about <time> min left", "time that is left"),
    (r"(?m)^(\d{4}(?:-<digest>)? .*\s)\d+\s*$", r"\1<time>", "the column `sec` of tables of trials"),
    (
        r"(?m)^((?:\w+ and teacher, s|a trial .*, s \(\d+\)|all \d+ trials, s|the whole sweep, min"
        rf"|memory of a worker, GiB|disk, MiB)\s+{_NUMBER}).*$",
        r"\1 <actual>",
        "what a sweep took, beside what was predicted",
    ),
    (r"\bwhere \d+ GiB are free", "where <free> GiB are free", "free disk"),
    (
        r"(?<=\.pt: )[\d,]+ bytes",
        "<size> bytes",
        "a TorchScript file has the process's number in it, and paths",
    ),
    (r"attempt-[\d-]+", "attempt-<time>", "folders of Ray Train are named by the time"),
    (r"/tmp/rd-\w+", "<ray>", "Ray's temporary folder"),
    (r"\b0x[0-9a-f]{6,}\b", "<address>", "addresses of objects"),
    (r"from raydistill[.\w]* import load_exported", "from <module> import load_exported", "modules move"),
]
"""(pattern, what stands for it, why it is never the same twice or may change), for both records, in order."""

SPLIT = {"again": {"replicate": "replicate_of", "recheck": "recheck_of"}}
"""Fields and columns of trials that are several now: old name -> role of the trial -> new name."""

MASKED_COLUMNS = {"wall_sec", "gpu_sec", "peak_memory_gb", "git_revision", "wall time (s)", "actual"} | {
    "actual / predicted"
}
"""Columns of CSV files: times, memory, and what they took beside what was predicted."""

PLACES: dict[str, tuple[str, ...]] = {
    "simulate": ("raydistill.search.simulate", "raydistill.simulate"),
    "Outcome": ("raydistill.search.simulate", "raydistill.simulate"),
    "load_space": ("raydistill.config.space", "raydistill.space"),
    "Objective": ("raydistill.config.space", "raydistill.space"),
    "Window": ("raydistill.config.space", "raydistill.space"),
    "Problem": ("raydistill.search",),
    "PriorObservation": ("raydistill.search",),
    "random_configuration": ("raydistill.search",),
    "EarlyStopping": ("raydistill.search",),
    "SAMPLERS": ("raydistill.search",),
    "members": ("raydistill.records.pareto", "raydistill.frontier"),
    "ranks": ("raydistill.records.pareto", "raydistill.frontier"),
    "contributions": ("raydistill.records.pareto", "raydistill.frontier"),
    "hypervolume": ("raydistill.records.pareto", "raydistill.frontier"),
    "Batch": ("raydistill.config.batch", "raydistill.batch"),
    "app": ("raydistill.commands.cli", "raydistill.cli"),
}
"""All that is imported from the package: name -> modules that it may lie in, the newest first."""
OLD_NAMES = {
    "PriorObservation": "Prior",
    "random_configuration": "random_pick",
    "prior_observations": "prior",
    "configuration": "picked",
    "replicate_of": "again",
}
"""What names of `PLACES`, and fields of their records, were called before."""


def module_of(name: str) -> str:
    """The module of this tree that has a name of `PLACES`, by its file: an installed tree may have others."""
    for module in PLACES[name]:
        file = ROOT / module.replace(".", "/")
        there = file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()
        if there and named(importlib.import_module(module), name):
            return module
    raise SystemExit(f"{name} lies in none of {', '.join(PLACES[name])}: add its module to PLACES")


def named(owner: Any, name: str) -> str:
    """What a module or a record calls `name`; empty: it has none."""
    return next((each for each in (name, OLD_NAMES.get(name, "")) if each and hasattr(owner, each)), "")


def of(owner: Any, name: str) -> Any:
    return getattr(owner, named(owner, name) or name)


def ours(name: str) -> Any:
    return of(importlib.import_module(module_of(name)), name)


# ---- running commands --------------------------------------------------------------------------------------

WIDE, NARROW = 400, 100
"""Columns of the terminal: nothing wraps; and, of help texts, a common one."""


class Done(NamedTuple):
    code: int
    out: str
    err: str


def environment(columns: int) -> dict[str, str]:
    """Of every command: this tree first, one thread, no GPU, nothing of the caller's Ray or MLflow."""
    left_out = ("RAY_", "MLFLOW_", "RAYDISTILL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    kept |= {
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return kept | {"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8"}


def raydistill(command: str, cwd: Path, columns: int = WIDE, timeout: float = 1200) -> Done:
    """Runs a command of this tree in a new process."""
    with subprocess.Popen(
        [sys.executable, "-m", "raydistill", *shlex.split(command)],
        cwd=cwd,
        env=environment(columns),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                out, err = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # its own session: nobody else's
                out, err = process.communicate()
            return Done(-1, out, f"{err}\n(ended after {timeout:g} s)")
        return Done(process.returncode, out, err)


class Forks:
    """Runs commands in processes forked from one that has imported everything: in a second, not several.

    What they say is the same. For commands that neither train nor start Ray.
    """

    def __init__(self, work: Path, number: int):
        self.work, self.idle = work, queue.Queue[subprocess.Popen[str]]()
        self.all = [self._started() for _ in range(number)]
        for server in self.all:
            self.idle.put(server)

    def _started(self) -> subprocess.Popen[str]:
        command, pipe = [sys.executable, str(Path(__file__).resolve()), "_serve"], subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.work, env=environment(WIDE), text=True, stdin=pipe, stdout=pipe
        )

    def run(self, command: str, cwd: Path) -> Done:
        server = self.idle.get()
        try:
            assert server.stdin is not None and server.stdout is not None
            with tempfile.TemporaryDirectory(dir=self.work, prefix=".said-") as said:
                print(json.dumps([command, str(cwd), said]), file=server.stdin, flush=True)
                code = int(server.stdout.readline())
                return Done(code, *((Path(said) / name).read_text() for name in ("out", "err")))
        finally:
            self.idle.put(server)

    def close(self) -> None:
        for server in self.all:
            server.communicate()  # it ends with its input


def serve() -> int:
    """The process that `Forks` starts: a line of input is a command, a folder, and where the output goes."""
    answers = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryDirectory(prefix="goldens-") as nowhere:
        said_to(nowhere)
        carry_out("plan --trials 0", nowhere)  # imports everything, and ends there
    for line in sys.stdin:
        command, cwd, said = json.loads(line)
        if (child := os.fork()) == 0:
            said_to(said)
            os._exit(carry_out(command, cwd))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
    return 0


def said_to(folder: str) -> None:
    """Standard output and error of this process go to files."""
    for name, number in (("out", 1), ("err", 2)):
        file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)


def carry_out(command: str, cwd: str) -> int:
    """`python -m raydistill` in this process; its exit code."""
    os.chdir(cwd)
    sys.path[0], sys.argv = cwd, ["", *shlex.split(command)]
    try:
        runpy.run_module("raydistill", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code


class Words(NamedTuple):
    """What this tree calls things."""

    judge: str
    """The config section, and the suffix of metrics: judge or evaluator."""
    option: str
    """Of `evaluate`, that names a folder of one."""
    front: str
    """The command that prints a sweep's tables again."""


def words_of(cwd: Path) -> Words:
    config, several, evaluate = (
        raydistill(text, cwd).out for text in ("config", "--help", "evaluate --help")
    )
    judge = "evaluator" if "\nevaluator." in config else "judge"
    front = next(name for name in ("frontier", "pareto", "front") if re.search(rf"(?m)^\W*{name}\s", several))
    return Words(judge, "--evaluator" if "--evaluator" in evaluate else "--judge", front)


@dataclass(frozen=True)
class Recorder:
    out: Path
    work: Path
    jobs: int
    words: Words
    forks: Forks
    stores: dict[str, Path] = field(default_factory=dict)
    """Space -> the results folder of its tiny sweep."""

    @property
    def data(self) -> Path:
        """The folder with every drawn data set."""
        return self.work / "data"

    def write(self, name: str, text: str) -> None:
        """A file of the record, without the places of this machine."""
        places = ((self.work, "<work>"), (ROOT, "<tree>"), (Path(sys.prefix), "<environment>"))
        for place, stands_for in places:
            text = text.replace(str(place), stands_for)
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def write_json(self, name: str, value: Any) -> None:
        self.write(f"{name}.json", json.dumps(value, indent=1) + "\n")

    def write_files(self, name: str, folder: Path) -> None:
        self.write(f"{name}-files.txt", "\n".join(tree_of(folder)) + "\n")

    def run(self, name: str, command: str, cwd: Path, alone: bool = False) -> Done:
        """Runs a command and keeps what it said. `alone`: in a new process, as what trains should be."""
        done = raydistill(command, cwd) if alone else self.forks.run(command, cwd)
        self.keep(name, command, done)
        return done

    def keep(self, name: str, command: str, done: Done) -> None:
        said = f"$ raydistill {' '.join(command.split())}\nexit code {done.code}\n{done.out}"
        self.write(f"{name}.txt", said + (f"---- stderr\n{done.err}" if done.err else ""))

    def each(self, calls: Iterable[Callable[[], Any]]) -> None:
        """Calls them, so many at a time."""
        with ThreadPoolExecutor(self.jobs) as pool:
            for call in [pool.submit(call) for call in calls]:
                call.result()

    def folder(self, name: str) -> Path:
        path = self.work / name
        path.mkdir(parents=True, exist_ok=True)
        return path


def sets(values: Mapping[str, Any]) -> str:
    return " ".join(f"--set {path}={value}" for path, value in values.items())


def fingerprint(*parts: bytes) -> str:
    """Of content that must be the same to the bit; in letters that no mask takes for a digest."""
    content = hashlib.sha256()
    for part in parts:
        content.update(len(part).to_bytes(8, "little") + part)
    return base64.b32encode(content.digest()).decode()[:26]


def of_tensor(value: Any) -> str:
    import torch

    tensor = value.detach().cpu().contiguous()
    content = tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return f"{tensor.dtype} {tuple(tensor.shape)} {fingerprint(content)}"


def of_weights(file: Path) -> str:
    """Of the names, shapes and numbers in a safetensors file."""
    from safetensors.torch import load_file

    state = load_file(file)
    return fingerprint(*(f"{name} {of_tensor(state[name])}".encode() for name in sorted(state)))


def of_picture(content: Path | bytes) -> str:
    import numpy as np
    from PIL import Image

    with Image.open(
        io.BytesIO(content) if isinstance(content, bytes) else content, formats=("PNG",)
    ) as image:
        return f"{image.mode} {image.size} {fingerprint(np.asarray(image).tobytes())}"


def tree_of(folder: Path, leave_out: Sequence[str] = ("ray",)) -> list[str]:
    """Every file, without the folders of Ray, whose names are times."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not set(leave_out) & set(path.parts))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# ---- drawn data --------------------------------------------------------------------------------------------


def draw(index: int, width: int, height: int) -> tuple[Any, Any]:
    """A picture (H, W, 3) of two rectangles on a ramp, and its label map (H, W) of three classes."""
    import numpy as np

    rng = np.random.default_rng(index)
    down, right = np.mgrid[0:height, 0:width]
    ramps = [3 * right + 5 * index, 4 * down + 9 * index, 2 * right + 3 * down]
    picture, labels = np.stack(ramps, -1) % 256, np.zeros((height, width), np.uint8)
    for kind in (1, 2):
        left, top = (int(rng.integers(0, size // 2)) for size in (width, height))
        part = (slice(top, top + height // 2), slice(left, left + width // 3))
        labels[part], picture[part] = kind, rng.integers(0, 256, 3)
    return picture.astype(np.uint8), labels


def save(path: Path, array: Any) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def labelled(folder: Path, train: int = 24, others: int = 8) -> Path:
    """images/ and labels/ of 24x16 in train/, val/ and test/."""
    index = itertools.count()
    for split, count in (("train", train), ("val", others), ("test", others)):
        for number in range(count):
            picture, labels = draw(next(index), 24, 16)
            save(folder / split / "images" / f"{number:03d}.png", picture)
            save(folder / split / "labels" / f"{number:03d}.png", labels)
    return folder


def aligned(folder: Path, count: int = 40, side: int = 24) -> Path:
    import numpy as np

    for number in range(count):
        picture, _ = draw(number, side, side)
        save(folder / f"{number:03d}.png", np.concatenate([255 - picture, picture], 1))
    return folder


def unpaired(folder: Path) -> Path:
    for name, first, count in (("trainA", 0, 20), ("trainB", 50, 24), ("testA", 100, 6), ("testB", 150, 8)):
        loose(folder / name, count, 24, 16, first)
    return folder


def loose(folder: Path, count: int = 40, width: int = 40, height: int = 32, first: int = 0) -> Path:
    for number in range(count):
        save(folder / f"{number:03d}.png", draw(first + number, width, height)[0])
    return folder


def classes(folder: Path) -> Path:
    for number in range(30):
        save(folder / ("cats", "dogs", "newts")[number % 3] / f"{number:03d}.png", draw(number, 16, 16)[0])
    return folder


def nvlabs(file: Path) -> Path:
    """A zip file as NVlabs' dataset_tool writes it."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    names = [f"00000/img{number:08d}.png" for number in range(20)]
    with zipfile.ZipFile(file, "w") as archive:
        for number, name in enumerate(names):
            content = io.BytesIO()
            Image.fromarray(draw(number, 16, 16)[0]).save(content, "png")
            archive.writestr(name, content.getvalue())
        labels = [[name, number % 2] for number, name in enumerate(names)]
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return file


def npz(file: Path) -> Path:
    import numpy as np

    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        file, images=np.stack([draw(number, 16, 16)[0] for number in range(20)]), labels=np.arange(20) % 4
    )
    return file


def idx(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 20), ("t10k", 6)):
        images = b"".join(draw(number, 12, 12)[0][..., 0].tobytes() for number in range(count))
        head = struct.pack(">4B3I", 0, 0, 8, 3, count, 12, 12)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(head + images)
        labels = struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(number % 5 for number in range(count))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(labels)
    return folder


DATA: dict[str, Callable[[Path], Path]] = {
    **{"labelled": labelled, "aligned": aligned, "unpaired": unpaired, "loose": loose, "classes": classes},
    **{"nvlabs.zip": nvlabs, "pictures.npz": npz, "idx": idx},
}


# ---- tiny sweeps -------------------------------------------------------------------------------------------


class Space(NamedTuple):
    data: str | None
    """Which drawn data set; None: the space draws its own."""
    size: tuple[int, int]
    """Height and width."""
    values: dict[str, Any]
    """More config paths."""
    options: str = ""
    """More options of the sweep. JUDGE: what this tree calls it."""


def widths(network: str, names: str, width: int) -> dict[str, int]:
    return {f"{network}.widths.{name}": width for name in names.split()}


SIDES = "at4 at8 at16 at32"
RESNET = {
    **widths("teacher.generator", "stem down trunk hidden up head", 4),
    **{"teacher.generator.num_blocks": 1, "student.generator.num_blocks": 1},
    **{"teacher.discriminator.width": 4, "teacher.discriminator.num_layers": 1},
}
ENERGY = {"student.terms.mi.energy.channels": 2, "student.terms.mi.num_steps": 2}
SHORT = {"teacher.budget_nimg": 32, "student.budget_nimg": 32} | {
    "teacher.report_every_nimg": 16,
    "student.report_every_nimg": 16,
}
FEW = {"data.num_train": 24, "data.num_val": 8, "data.num_test": 8}
SPACES: dict[str, Space] = {
    "default": Space(None, (16, 16), RESNET | ENERGY),
    "default64": Space(None, (16, 16), RESNET | {"student.terms.mi.kind": "critic"}, "--sampler tpe"),
    "camvid": Space(
        "labelled",
        (16, 24),
        RESNET | ENERGY | {"student.terms.mi.start": "replay"},
        "--early-stopping --seed 1",
    ),
    "aligned": Space(
        "aligned",
        (16, 16),
        RESNET
        | ENERGY
        | {"data.load_height": 20, "data.load_width": 20, "student.terms.mi.positive": "target"},
        "--replicates 2 --seed 1",
    ),
    "cyclegan": Space(
        "unpaired",
        (16, 24),
        RESNET | ENERGY | {"student.terms.mi.start": "student"},
        "--objective val/kd_JUDGE:min:1 --objective val/fd_JUDGE:min:9 --objective cost/params:min",
    ),
    "enhance": Space(
        "loose",
        (32, 32),
        widths("teacher.generator", "trunk hidden up", 32)
        | {"teacher.generator.num_blocks": 1, "student.generator.num_blocks": 1, "student.init": "teacher"}
        | ENERGY,
        "--sampler sobol --seed 3",
    ),
    "unet": Space(
        "labelled",
        (16, 32),
        widths("teacher.generator", "down1 down2 down3 deep up3 up2 up1", 4)
        | {"teacher.discriminator.width": 4, "teacher.discriminator.num_layers": 1}
        | {"student.terms.mi.kind": "vid", "student.precision": "bfloat16"},
        "--warm-start old.csv",
    ),
    "mobile": Space(
        "labelled",
        (16, 24),
        widths("teacher.generator", "stem down trunk hidden1 hidden2 hidden3 up head", 4)
        | {"teacher.discriminator.width": 4, "teacher.discriminator.num_layers": 1}
        | {"student.execution.microbatch": 4, "student.terms.mi.start": "noise"}
        | ENERGY,
        "--max-params 14000",
    ),
    "sagan": Space(
        "loose",
        (64, 64),
        widths("teacher.generator", SIDES, 8)
        | widths("teacher.discriminator", SIDES, 8)
        | {"teacher.generator.latent": 8, "student.generator.latent": 8}
        | ENERGY
        | SHORT,
    ),
    "stylegan2": Space(
        "loose",
        (32, 32),
        widths("teacher.generator", SIDES, 4)
        | widths("teacher.discriminator", SIDES, 4)
        | {f"{stage}.generator.style": 8 for stage in ("teacher", "student")}
        | {f"{stage}.generator.num_mapping_layers": 1 for stage in ("teacher", "student")}
        | {"teacher.path_every": 2, "teacher.r1_every": 2}
        | ENERGY
        | SHORT,
        "--sampler random",
    ),
}
"""A tiny sweep of each search space, each with something of its own."""
ATTEMPTS = 3
"""So often a sweep is run, until no trial fails: on a machine that is too busy, Ray gives a worker up."""
OLD_TABLE = """\
student.generator.widths.down1,student.generator.widths.down2,student.generator.widths.down3,\
student.generator.widths.deep,student.generator.widths.up3,student.generator.widths.up2,\
student.generator.widths.up1,student.terms.mi.weight,val/miou
2,4,8,8,8,4,2,0,0.2
8,16,32,64,32,16,8,0.1,0.6
4,8,16,32,16,8,4,0.03,0.5
4,8,16,32,16,8,4,0.7,0.5
"""
"""What the sweep of `unet` begins with; its last row lies outside the space."""


def sweep_of(name: str, recorder: Recorder) -> str:
    """The options of a tiny sweep, without the number of trials."""
    space, judge = SPACES[name], recorder.words.judge
    values: dict[str, Any] = {"data.height": space.size[0], "data.width": space.size[1]}
    values |= FEW if space.data is None else {}
    values |= {f"{judge}.network.width": 4, f"{judge}.network.feature_width": 4}
    for stage in (judge, "teacher", "student"):
        values |= {f"{stage}.batch_size": 8, f"{stage}.budget_nimg": 64, f"{stage}.report_every_nimg": 32}
    data = "" if space.data is None else f"--data {recorder.data / space.data}"
    fixed = "--store runs --seconds-per-image 0.01 --max-concurrent 1 --teacher-workers 1"
    options = space.options.replace("JUDGE", judge)
    return f"--space {name} {data} {fixed} {options} {sets(values | space.values)}"


def run_sweep(name: str, recorder: Recorder) -> None:
    """A tiny sweep with everything that it leaves, in work/sweeps/NAME; of `default` a resume, too."""
    cwd, command = recorder.work / "sweeps" / name, f"sweep {sweep_of(name, recorder)}"
    for _ in range(ATTEMPTS):
        shutil.rmtree(cwd, ignore_errors=True)
        cwd.mkdir(parents=True)
        (cwd / "old.csv").write_text(OLD_TABLE)
        recorder.run(f"sweeps/{name}/said", f"{command} --trials 2", cwd, alone=True)
        if name == "default":
            recorder.run(f"sweeps/{name}/said-resume", f"{command} --trials 3 --resume", cwd, alone=True)
        results = [read_json(path) for path in cwd.glob("runs/sweeps/*/trials/*/result.json")]
        trials = list(cwd.glob("runs/sweeps/*/trials/*/trial.json"))
        if trials and len(results) == len(trials) and all(found["status"] != "FAIL" for found in results):
            break
        print(f"sweep {name}: a trial failed, which none should", flush=True)
    recorder.stores[name] = cwd / "runs"
    for folder in sorted((cwd / "runs" / "sweeps").glob("[!.]*")):
        record_sweep(folder, f"sweeps/{name}", recorder)
    record_tracking(cwd / "runs" / "mlflow.db", f"sweeps/{name}/mlflow.txt", recorder)


def record_sweep(folder: Path, name: str, recorder: Recorder) -> None:
    """Its tables, ledger, networks, pictures and page, and those of the networks that its trials share."""
    for path in sorted(folder.glob("*.csv")):
        is_front = re.search("front|pareto", path.name)
        recorder.write(f"{name}/{'front.csv' if is_front else path.name}", path.read_text())
    files = ("sweep.json", "forecast.json", "warm_start.json")
    ledger: dict[str, Any] = {file: read_json(folder / file) for file in files if (folder / file).exists()}
    prints: dict[str, str] = {}
    for trial in sorted([*folder.glob("trials/*"), *(folder.parents[1] / "cache").glob("*/*")]):
        kind = trial.parent.name
        if trial.is_dir() and kind != "ray":
            label = f"{kind}/{trial.name}" if kind == "trials" else kind  # others are named by their digest
            ledger |= {f"{label}/{file}": found for file, found in said_in(trial).items()}
            prints |= {f"{label}/{file}": found for file, found in kept_in(trial).items()}
    recorder.write_json(f"{name}/ledger", ledger)
    recorder.write_json(f"{name}/prints", prints)
    recorder.write_files(f"{name}/sweep", folder)
    for page in folder.glob("*.html"):
        recorder.write_json(f"{name}/page", page_of(page))


def said_in(trial: Path) -> dict[str, Any]:
    """JSON and log of a trial, of a trained network or of prepared data."""
    names = [name for name in ("trial", "result", "info") if (trial / f"{name}.json").is_file()]
    log = {"log": (trial / "log.txt").read_text().splitlines()} if (trial / "log.txt").is_file() else {}
    return {name: read_json(trial / f"{name}.json") for name in names} | log


def kept_in(trial: Path) -> dict[str, str]:
    """Fingerprints of networks, pictures and arrays."""
    kinds: dict[str, Callable[[Path], str]] = {
        **{".safetensors": of_weights, ".png": of_picture},
        ".npy": lambda path: fingerprint(path.read_bytes()),
    }
    paths = [path for path in sorted(trial.rglob("*")) if path.suffix in kinds]
    return {path.relative_to(trial).as_posix(): kinds[path.suffix](path) for path in paths}


def page_of(path: Path) -> dict[str, Any]:
    """What the page says and draws. Nothing that depends on a time: no front over it, no axis of it."""
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    assert found is not None, path
    data = json.loads(found[1])
    data["axes"] = [axis for axis in data["axes"] if not axis["name"].startswith("time/")]
    data["fronts"] = {pair: rows for pair, rows in data["fronts"].items() if "time/" not in pair}
    for row in data["rows"]:
        row["values"] = {name: value for name, value in row["values"].items() if not name.startswith("time/")}
    data["facts"].pop("code", None)
    images = {trial: base64.b64decode(image.partition(",")[2]) for trial, image in data["samples"].items()}
    data["samples"] = {trial: of_picture(image) for trial, image in images.items()}
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", text[text.index("<title>") :], flags=re.S)
    return {"words": html.unescape(re.sub(r"<[^>]*>", " ", body)).split(), "data": data}


def record_tracking(file: Path, name: str, recorder: Recorder) -> None:
    """What is in the tracking store: parameters, tags, and every number with the images seen."""
    if not file.exists():
        return
    left_out = ("mlflow.user", "mlflow.source", "mlflow.artifact", "time/", "raydistill.git_revision")
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    runs = {
        run: (name, status)
        for run, name, status in connection.execute("SELECT run_uuid, name, status FROM runs")
    }
    lines = [f"{name} status {status}" for name, status in runs.values()]
    for kind, step in (("param", "0"), ("tag", "0"), ("metric", "step")):
        for run, key, value, at in connection.execute(f"SELECT run_uuid, key, value, {step} FROM {kind}s"):
            if not key.startswith(left_out):
                lines.append(f"{runs[run][0]} {kind} {key}{f' at {at}' if at else ''} = {value!r}")
    for key, value in connection.execute("SELECT key, value FROM experiment_tags"):
        lines.append(f"experiment tag {key} = {value}")
    connection.close()
    recorder.write(name, "\n".join(sorted(lines)) + "\n")


def part_sweeps(recorder: Recorder) -> None:
    names = sorted(SPACES, key=lambda name: name not in ("default", "aligned"))  # these take longest
    recorder.each(partial(run_sweep, name, recorder) for name in names)


# ---- simulated sweeps --------------------------------------------------------------------------------------


def widths_of(picked: Mapping[str, Any]) -> list[float]:
    return [float(value) for path, value in picked.items() if ".widths." in path]


def costs_of(picked: Mapping[str, Any]) -> dict[str, float]:
    """A formula in place of counting: sums of the products of neighbouring widths."""
    own = widths_of(picked)
    macs, params = (sum(a * b for a, b in itertools.pairwise(each)) for each in ([3.0, *own, 3.0], own))
    return {"cost/macs": 1000 * macs, "cost/params": 9 * params}


def quality(picked: Mapping[str, Any]) -> float:
    """A formula in place of training: grows with all widths; the term is best at a step size of 10."""
    weight = {"0": 0.0, "0.03": 0.02, "0.1": 0.05, "0.3": 0.01}[picked.get("student.terms.mi.weight", "0")]
    step = (
        math.log10(picked["student.terms.mi.step_size"]) - 1
        if "student.terms.mi.step_size" in picked
        else 0.0
    )
    size = sum(math.log1p(width) for width in widths_of(picked))
    return 0.2 + 0.4 * (1 - 1 / size) + weight * math.exp(-(step**2))


def outcome(objectives: Sequence[str], noise: float, picked: Mapping[str, Any], number: int) -> Any:
    """What training it as trial `number` gives: number 5 fails; two evaluations before the last."""
    end, costs = quality(picked) + noise * math.sin(7 * number), costs_of(picked)

    def values(share: float) -> list[float]:
        known = {"val/miou": end * share, **costs}
        return [float(known.get(name, 1 - end * share)) for name in objectives]

    wall_sec, curve = 1 + costs["cost/macs"] / 1e6 + 0.01 * number, [(100, values(0.4)), (200, values(0.7))]
    return ours("Outcome")(None if number == 5 else values(1.0), wall_sec, 400, curve)


class Simulation(NamedTuple):
    """One simulated sweep, as plain data: another process runs it."""

    sampler: str
    space: str = "default"
    seed: int = 0
    trials: int = 15
    noise: float = 0.0
    early_stopping: bool = False
    objectives: tuple[tuple[str, str], ...] = ()
    """More objectives: name and direction."""
    window: tuple[float, float] | None = None
    """On the MACs."""
    prior: bool = False
    """It begins with what other trials gave, in two sources."""
    cut: float | None = None
    """It is killed at this share of its time, and goes on."""
    options: dict[str, Any] = {}
    """Of `simulate`."""


def simulations() -> dict[str, Simulation]:
    known, params, psnr = "known-cost", ("cost/params", "min"), ("val/psnr", "max")
    out = {sampler: Simulation(sampler) for sampler in ours("SAMPLERS")} | {
        "seed-1-killed": Simulation(known, seed=1, trials=20, cut=0.4),
        "early-stopping": Simulation(known, trials=34, early_stopping=True),
        "early-stopping-random": Simulation("random", trials=40, early_stopping=True),
        "replicates": Simulation(known, trials=10, noise=0.02, options={"num_replicates": 12}),
        "stable": Simulation("tpe", noise=0.02, options={"num_replicates": 30, "stability": 0.8}),
        "warm-known-cost": Simulation(known, trials=8, prior=True),
        "warm-modelled-cost": Simulation("modelled-cost", trials=8, prior=True),
    }
    for sampler in (known, "tpe"):
        out[f"window-{sampler}"] = Simulation(sampler, window=(2e5, 9e5))
        out[f"objectives-{sampler}"] = Simulation(sampler, trials=10, objectives=(params,))
        out[f"qualities-{sampler}"] = Simulation(sampler, trials=9, objectives=(params, psnr))
    for space in ("aligned", "enhance", "mobile", "sagan", "stylegan2", "unet"):
        out[f"space-{space}"] = Simulation(known, space=space, trials=8)
    return out


def problem_of(simulation: Simulation) -> Any:
    import numpy as np

    space, objective, window = (
        ours("load_space")(str(ROOT / f"search_spaces/{simulation.space}.py")),
        *map(ours, ("Objective", "Window")),
    )
    more = [
        objective(name=name, direction=to, reference=0 if to == "max" else None)
        for name, to in simulation.objectives
    ]
    ends = simulation.window
    windows = () if ends is None else (window(cost="cost/macs", low=ends[0], high=ends[1]),)
    space = space.model_copy(update={"objectives": (*space.objectives, *more), "constraints": windows})
    problem = ours("Problem")(space, costs_of, simulation.seed, 5, simulation.sampler, simulation.trials)
    if not simulation.prior:
        return problem
    names = [each.name for each in space.objectives]
    picks = [ours("random_configuration")(space, np.random.default_rng(number)) for number in range(12)]
    values = [outcome(names, 0.0, picked, 0).values for picked in picks]
    known = [
        ours("PriorObservation")(*pair, 1 + at % 2) for at, pair in enumerate(zip(picks, values, strict=True))
    ]
    return problem._replace(**{named(problem, "prior_observations"): known})


def simulated(simulation: Simulation) -> dict[str, Any]:
    """Every proposal and the front of one simulated sweep."""
    import torch

    torch.set_num_threads(1)
    problem = problem_of(simulation)
    objectives = problem.space.objectives
    measure = partial(outcome, [each.name for each in objectives], simulation.noise)
    stop = {"should_stop": ours("EarlyStopping")(problem)} if simulation.early_stopping else {}
    options = {"num_trials": simulation.trials, "num_workers": 3, **stop, **simulation.options}
    found = ours("simulate")(problem, measure, **options)
    if simulation.cut is not None:
        end = simulation.cut * max(trial.ends_sec for trial in found)
        killed = ours("simulate")(problem, measure, **options, until_sec=end)
        assert ours("simulate")(problem, measure, **options, trials=killed) == found, "it went on otherwise"
    kept = ("configuration", "status", "started_sec", "ends_sec", "replicate_of", "num_reports")
    rows = [{name: of(trial, name) for name in kept} | {"values": trial.outcome.values} for trial in found]
    return {"trials": rows, "front": front_of(found, [each.direction for each in objectives])}


def front_of(trials: Sequence[Any], directions: Sequence[str]) -> dict[str, Any]:
    """Of the searched trials; the reference is the worst of each objective."""
    whole = [trial for trial in trials if trial.status == "COMPLETE" and of(trial, "replicate_of") is None]
    points = [trial.outcome.values for trial in whole]
    columns = zip(directions, zip(*points, strict=True), strict=True)
    reference = [max(column) if to == "min" else min(column) for to, column in columns]
    is_member = ours("members")(points, directions)
    return {
        "members": [trial.number for trial, member in zip(whole, is_member, strict=True) if member],
        "ranks": [int(rank) for rank in ours("ranks")(points, directions)],
        "contributions": [float(value) for value in ours("contributions")(points, directions, reference)],
        "hypervolume": float(ours("hypervolume")(points, directions, reference)),
    }


def part_samplers(recorder: Recorder) -> None:
    before = dict(os.environ)
    os.environ |= environment(WIDE)
    try:
        with ProcessPoolExecutor(recorder.jobs, multiprocessing.get_context("spawn")) as pool:
            running = {name: pool.submit(simulated, each) for name, each in simulations().items()}
            for name, done in running.items():
                recorder.write_json(f"samplers/{name}", done.result())
    finally:
        os.environ.clear()
        os.environ |= before


# ---- plans -------------------------------------------------------------------------------------------------

PLANS = """
sweep-plan: default --trials 3
windows: default --max-macs 5e6 --min-params 2e3 --max-memory-gb 0.6 --trials 30
replicates: aligned --replicates 9 --stability 0.9 --max-hours 2
workers: default --executor train --workers-per-trial 2 --nimg 320
memory: mobile --objective val/miou:max:0 --objective cost/memory_gb:min
terms: camvid --set student.terms.mi=published_pix2pix --set data.direction=AtoB
concurrent: unet --max-concurrent 1 --teacher-cache-gb 0 --set student.terms.mi.kind=vid
old-word: default --set judge.budget_nimg=160 --set judge.report_every_nimg=80
objectives: cyclegan --objective val/fd_{judge}:min:5 --objective cost/params:min
"""
"""Beside the plan of each space: name, space, options."""


def listed(text: str, **words: Any) -> dict[str, str]:
    """Lines of "name: rest"."""
    lines = (line.partition(":") for line in text.strip().format(**words).splitlines())
    return {name: rest.strip() for name, _, rest in lines}


def part_plans(recorder: Recorder) -> None:
    """Of each space at its own size, and of some options."""

    def plan(name: str, given: str) -> None:
        space, _, options = given.partition(" ")
        data = SPACES[space].data
        source = sets(FEW) if data is None else f"--data {recorder.data / data}"
        fixed = f"--space {space} --seconds-per-image 0.01 --store runs-{name} {source} {options}"
        command = "sweep --plan" if name == "sweep-plan" else "plan"
        recorder.run(f"plans/{name}", f"{command} {fixed}", recorder.folder("plans"))

    plans = {space: space for space in SPACES} | listed(PLANS, judge=recorder.words.judge)
    recorder.each(partial(plan, *each) for each in plans.items())


# ---- what the other commands print and write ---------------------------------------------------------------


def part_outputs(recorder: Recorder) -> None:
    if "default" not in recorder.stores:
        run_sweep("default", replace(recorder, out=recorder.work / "unused"))
    calls = (record_of_default, record_evaluators, record_doctor, record_imports, record_inspections)
    recorder.each(partial(call, recorder) for call in (*calls, record_configs, record_fetch))


def record_configs(recorder: Recorder) -> None:
    commands = {space: f"--space {space}" for space in SPACES}
    for name in ("published_pix2pix", "published_cyclegan", "published_stylegan2"):
        commands[name] = f"--set student.terms.mi={name}"
    commands["set"] = sets({f"{recorder.words.judge}.network.width": 5, "student.terms.mi.kind": "vid"})
    commands["old-word"] = "--set judge.network.width=5"
    for name, options in commands.items():
        recorder.run(f"outputs/config/{name}", f"config {options}", recorder.folder("config"))


def record_inspections(recorder: Recorder) -> None:
    data, cwd = recorder.data, recorder.folder("inspect")
    run = partial(recorder.run, cwd=cwd)
    for name in DATA:
        run(f"outputs/inspect/{name}", f"data inspect {data / name} --sheet {name}.png")
        recorder.write(f"outputs/inspect/{name}-sheet.txt", f"{of_picture(cwd / f'{name}.png')}\n")
    run("outputs/inspect/json", f"data inspect {data}/labelled --json --num 7")
    run("outputs/inspect/layout", f"data inspect {data}/aligned --layout pictures --num 3")
    odd = labelled(cwd / "odd", 6, 2)
    (odd / "train/images/002.png").write_bytes(b"not a picture")
    save(odd / "val/labels/001.png", draw(0, 12, 12)[1])
    save(odd / "test/images/001.png", draw(0, 24, 16)[0][..., 0])
    (odd / "classes.json").write_text('{"classes": ["a", "b", "c"], "ignore_index": 2}')
    run("outputs/inspect/problems", "data inspect odd")


def record_fetch(recorder: Recorder) -> None:
    """From a folder in place of the official address."""
    cwd = recorder.folder("fetch")
    loose(cwd / "facades" / "train", 3)
    (cwd / "mirror").mkdir(exist_ok=True)
    with tarfile.open(cwd / "mirror/facades.tar.gz", "w:gz") as archive:
        archive.add(cwd / "facades", "facades")
    recorder.run("outputs/fetch/facades", f"data fetch facades --mirror {(cwd / 'mirror').as_uri()}", cwd)
    recorder.run("outputs/fetch/again", "data fetch facades", cwd)
    recorder.write_files("outputs/fetch/facades", cwd / "data")


def record_evaluators(recorder: Recorder) -> None:
    """Of every kind of data: what one predicts differs."""
    cwd, judge = recorder.folder("evaluator"), recorder.words.judge
    values = {"data.height": 16, "data.width": 16, f"{judge}.network.width": 4, f"{judge}.budget_nimg": 96}
    values[f"{judge}.report_every_nimg"] = 48
    for space, data in (
        ("camvid", "labelled"),
        ("aligned", "aligned"),
        ("enhance", "loose"),
        ("sagan", "classes"),
    ):
        given = f"--space {space} --data {recorder.data / data} --store {space} {sets(values)}"
        recorder.run(f"outputs/evaluator/{space}", f"evaluator train {given}", cwd, alone=True)
        trained = judge_in(cwd / space)
        recorder.write_json(f"outputs/evaluator/{space}", said_in(trained) | kept_in(trained))


def judge_in(store: Path) -> Path:
    """The folder of the network that scores."""
    folders = (path for kind in ("evaluator", "judge") for path in (store / "cache").glob(f"{kind}/*"))
    return next(path for path in folders if (path / "network").is_dir())


def record_doctor(recorder: Recorder) -> None:
    """What is looked at; what it finds is the machine's."""
    done = raydistill("doctor --json", recorder.folder("doctor"))
    checks = [f"{finding['check']}: {', '.join(sorted(finding))}" for finding in json.loads(done.out)]
    recorder.write_json("outputs/doctor", checks)


def record_of_default(recorder: Recorder) -> None:
    """Everything that is made of a finished sweep."""
    cwd, sweep, options = (
        recorder.stores["default"].parent,
        "runs/sweeps/default-001",
        sweep_of("default", recorder),
    )
    table = list(csv.DictReader(io.StringIO((cwd / sweep / "trials.csv").read_text())))
    first, second, *_ = [int(row["trial_id"]) for row in table if row["role"] == "search"]
    trials = [f"{sweep}/trials/{number:04d}" for number in (first, second)]
    record_exports(recorder, cwd, trials[0])
    record_evaluations(recorder, cwd, *trials)
    run, alone = partial(recorder.run, cwd=cwd), partial(recorder.run, cwd=cwd, alone=True)
    run("outputs/front", f"{recorder.words.front} {sweep}")
    run("outputs/plan-again", f"plan {options}")
    run("outputs/resume-other-seed", f"sweep {options} --resume --name default-001 --seed 4")
    run("outputs/name-taken", f"sweep {options} --name default-001")
    run("outputs/teacher-is-no-generator", f"plan --teacher {judge_in(cwd / 'runs')}")
    alone("outputs/latency", f"latency {trials[0]} --repeats 3 --batch-size 2 --json")
    run("outputs/retrain/no-student", f"retrain {sweep} --trial 0 --nimg 99")
    run("outputs/retrain/no-trial", f"retrain {sweep} --trial 77 --nimg 99")
    run("outputs/retrain/too-short", f"retrain {sweep} --trial {first} --nimg 64")
    alone("outputs/retrain/longer", f"retrain {sweep} --trial {first} --nimg 128")
    alone("outputs/retrain/other-seed", f"retrain {sweep} --trial {second} --nimg 96 --seed 5")
    kept: dict[str, Any] = {}
    for folder in sorted((cwd / sweep / "retrained").glob("*-*/")):
        kept |= {
            f"{folder.name[:4]} {name}": value for name, value in (said_in(folder) | kept_in(folder)).items()
        }
    recorder.write_json("outputs/retrain/kept", kept)


def record_exports(recorder: Recorder, cwd: Path, trial: str) -> None:
    """Each format with its card, and the file's outputs for one input by what its users load it with."""
    import torch

    files = {"onnx": "student.onnx", "torchscript": "student.pt", "safetensors": "student.safetensors"}
    paths = {name: cwd / f"export-{name}" / file for name, file in files.items()}
    for name, path in paths.items():
        path.parent.mkdir(exist_ok=True)
        done = recorder.run(
            f"outputs/export/{name}", f"export {trial} --format {name} --out {path} --licence MIT", cwd
        )
        assert done.code == 0, done
        recorder.write(f"outputs/export/{name}-card.md", path.with_suffix(f"{path.suffix}.md").read_text())
        recorder.write_files(f"outputs/export/{name}", path.parent)
    recorder.run("outputs/export/labels", f"export {trial} --format torchscript --out p.pt --pictures x", cwd)
    script = torch.jit.load(str(paths["torchscript"]))
    channels = next(value.shape[1] for value in script.state_dict().values() if value.ndim == 4)
    inputs = torch.linspace(-1, 1, 2 * channels * 16 * 16).reshape(2, channels, 16, 16)
    with torch.no_grad():
        outputs = {"torchscript": script(inputs), "onnx": run_onnx(paths["onnx"], inputs)}
        outputs["safetensors"] = named_in_card(paths["safetensors"], "network")(inputs)
    found = {name: [of_tensor(value), *value.flatten()[::77].tolist()] for name, value in outputs.items()}
    recorder.write_json("outputs/export/outputs", found | {"weights": of_weights(paths["safetensors"])})


def run_onnx(file: Path, inputs: Any) -> Any:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": inputs.numpy()})[0])


def named_in_card(file: Path, name: str) -> Any:
    """What the Python lines of a file's card define."""
    (code,) = re.findall(r"```python\n(.*?)```", file.with_suffix(f"{file.suffix}.md").read_text(), re.S)
    names: dict[str, Any] = {}
    exec(code.replace(f'"{file.name}"', repr(str(file))), names)
    return names[name]


EVALUATIONS = """
trial: {trial} --json
table: {trial} {other}
test: {trial} {other} --split test --num 6 --json {means}
teacher: runs/sweeps/default-001/trials/0000 --json
onnx: export-onnx/student.onnx {trial} --json
shapes: {trial} --data shapes {few} --set data.height=16 --set data.width=16 --json
given: {trial} {option} {judge} --json
old-word: {trial} --judge {judge} --json
paired: fake --real real {means} --paired
before: fake --real real {means} --json
against: real --real real {means} --against before.json
other-conditions: fake --real real {means} --num 9 --against before.json
labels: eight --data {data}/labelled --segmenter torchscript=classes.pt --paired --json
"""


def record_evaluations(recorder: Recorder, cwd: Path, trial: str, other: str) -> None:
    write_scripts(cwd)
    for name, count, width, first in (("real", 12, 16, 0), ("fake", 12, 16, 70), ("eight", 8, 24, 24)):
        loose(cwd / name, count, width, 16, first)
    words = {"trial": trial, "other": other, "judge": judge_in(cwd / "runs"), "option": recorder.words.option}
    words |= {"data": recorder.data, "few": sets(FEW), "means": "--extractor torchscript=means.pt"}
    for name, given in listed(EVALUATIONS, **words).items():
        done = recorder.run(f"outputs/evaluate/{name}", f"evaluate {given} --resamples 20", cwd)
        if name == "before":
            (cwd / "before.json").write_text(done.out)


def write_scripts(folder: Path) -> None:
    """A network of features and one of classes, as TorchScript files."""
    import torch
    from torch import nn

    class Means(nn.Module):
        """The mean of each channel in each quarter, 12 numbers."""

        def forward(self, pictures: Any) -> Any:
            return nn.functional.adaptive_avg_pool2d(pictures.float() / 255, 2).flatten(1)

    class Classes(nn.Module):
        """The brightest channel's."""

        def forward(self, pictures: Any) -> Any:
            return pictures.float()

    example = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    for name, module in (("means", Means()), ("classes", Classes())):
        torch.jit.save(torch.jit.trace(module, example), str(folder / f"{name}.pt"))


# ---- published checkpoints ---------------------------------------------------------------------------------


class State:
    """The tensors of a checkpoint file, drawn by their names."""

    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}

    def add(self, name: str, *shape: int, low: float = -0.3, high: float = 0.3) -> None:
        import numpy as np
        import torch

        drawn = np.random.default_rng(list(name.encode())).uniform(low, high, shape)
        self.tensors[name] = torch.from_numpy(np.asarray(drawn, np.float32))

    def layer(self, name: str, out: int, given: int, *kernel: int, bias: int | None = None) -> None:
        """bias: how many; None: as `out`."""
        self.add(f"{name}.weight", out, given, *kernel)
        if bias != 0:
            self.add(f"{name}.bias", out if bias is None else bias)

    def up(self, name: str, given: int, out: int, kernel: int, bias: bool = True) -> None:
        """A transposed convolution."""
        self.layer(name, given, out, kernel, kernel, bias=out if bias else 0)

    def norm(self, name: str, width: int) -> None:
        """A batch norm."""
        import torch

        for part in ("weight", "bias", "running_mean"):
            self.add(f"{name}.{part}", width)
        self.add(f"{name}.running_var", width, low=0.5, high=1.5)
        self.tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)


def resnet_file(second: int = 5, mobile: bool = False, batch: bool = False) -> State:
    """CycleGAN's ResNet generator; with separable convolutions GAN Compression's.

    second: the number of the second convolution of a block; 6 with a dropout before it.
    """
    state, hidden, bias = State(), (5, 9, 7) if mobile else (5, 5), 0 if batch else None
    last = 10 + len(hidden)
    for index, out, given, kernel in ((1, 4, 3, 7), (4, 6, 4, 3), (7, 8, 6, 3)):
        state.layer(f"model.{index}", out, given, kernel, kernel, bias=bias)
    for block, width in enumerate(hidden):
        for at, out, given in ((1, width, 8), (second, 8, width)):
            name = f"model.{10 + block}.conv_block.{at}"
            if mobile:
                state.layer(f"{name}.conv.0", given, 1, 3, 3)
                state.layer(f"{name}.conv.2", out, given, 1, 1)
            else:
                state.layer(name, out, given, 3, 3, bias=bias)
            if batch:
                state.norm(f"model.{10 + block}.conv_block.{at + 1}", out)
    state.up(f"model.{last}", 8, 7, 3, not batch)
    state.up(f"model.{last + 3}", 7, 3, 3, not batch)
    state.layer(f"model.{last + 7}", 3, 3, 7, 7)
    for index, width in ((2, 4), (5, 6), (8, 8), (last + 1, 7), (last + 4, 3)) if batch else ():
        state.norm(f"model.{index}", width)
    return state


def unet_file() -> State:
    """pix2pix's U-Net of four levels, each inside the one above it."""
    state, down, up, prefix = State(), (4, 6, 8, 10), (5, 7, 9, 10), "model.model."
    state.layer(f"{prefix}0", down[0], 3, 4, 4)
    state.up(f"{prefix}3", up[0] + down[0], 3, 4)
    for level in (1, 2, 3):
        prefix += "1.model." if level == 1 else "3.model."
        state.layer(f"{prefix}1", down[level], down[level - 1], 4, 4)
        beside = down[level] if level < 3 else 0
        state.up(f"{prefix}{5 if level < 3 else 3}", up[level] + beside, up[level - 1], 4)
    return state


def sagan_file() -> State:
    """heykeetae's generator of 64x64."""
    state = State()
    for index, (given, out) in enumerate(itertools.pairwise((7, 6, 9, 17, 10)), 1):
        name = f"l{index}.0.module"
        state.add(f"{name}.weight_bar", given, out, 4, 4)
        for part, width in (("bias", out), ("weight_u", given), ("weight_v", 16 * out)):
            state.add(f"{name}.{part}", width)
        state.norm(f"l{index}.1", out)
    for index, width in ((1, 17), (2, 10)):
        for part, out in (("query", width // 8), ("key", width // 8), ("value", width)):
            state.layer(f"attn{index}.{part}_conv", out, width, 1, 1)
        state.add(f"attn{index}.gamma", 1)
    state.up("last.0", 10, 3, 4)
    return state


def stylegan_file() -> State:
    """NVlabs' generator of 16x16, as a plain state dict."""
    state, style, given = State(), 12, 8
    for index in range(2):
        state.layer(f"mapping.fc{index}", style, style)
    state.add("mapping.w_avg", style)
    state.add("synthesis.b4.const", given, 4, 4)
    for side, width in ((4, 8), (8, 6), (16, 4)):
        for name in ("conv1", "torgb") if side == 4 else ("conv0", "conv1", "torgb"):
            place, out, kernel = f"synthesis.b{side}.{name}", *((3, 1) if name == "torgb" else (width, 3))
            state.layer(place, out, given, kernel, kernel)
            state.layer(f"{place}.affine", given, style)
            if name != "torgb":
                state.add(f"{place}.noise_strength")
                state.add(f"{place}.noise_const", side, side)
            given = width
    return state


PUBLISHED: dict[str, tuple[Callable[[], State], str]] = {
    "cyclegan": (resnet_file, "--size 16x24"),
    "cyclegan-dropout": (partial(resnet_file, second=6), "--size 16x16"),
    "cyclegan-batch": (partial(resnet_file, batch=True), "--size 16x16"),
    "compression": (partial(resnet_file, second=6, mobile=True), "--size 16x16"),
    "pix2pix": (unet_file, "--size 32x48"),
    "sagan": (sagan_file, ""),
    "stylegan2": (stylegan_file, ""),
}
"""File -> its tensors, and options."""


def published(name: str, folder: Path) -> Path:
    import torch

    state = PUBLISHED[name][0]().tensors
    torch.save({"g_ema": state} if name == "stylegan2" else state, folder / f"{name}.pth")
    return folder / f"{name}.pth"


def record_imports(recorder: Recorder) -> None:
    cwd = recorder.folder("import")
    for name, (_, options) in PUBLISHED.items():
        published(name, cwd)
        recorder.run(f"outputs/import/{name}", f"teacher import {name}.pth {options}", cwd)
        folder = cwd / f"{name}-imported"
        if folder.is_dir():
            found = {file: read_json(folder / file) for file in ("import.json", "meta.json")}
            output = found["import.json"]
            output["output_digest"] = output["output_digest"].upper()  # of pictures: it must be the same
            recorder.write_json(f"outputs/import/{name}", found | kept_in(folder))
            recorder.write_files(f"outputs/import/{name}", folder)
    pictures = f"--size 32x48 --pictures {recorder.data}/loose"
    recorder.run("outputs/import/export", f"export pix2pix-imported --format torchscript {pictures}", cwd)
    for card in cwd.glob("*.md"):
        recorder.write("outputs/import/export-card.md", card.read_text())
    teacher = f"--space aligned --data {recorder.data}/aligned --teacher cyclegan-imported"
    recorder.run("outputs/import/plan", f"plan {teacher} --seconds-per-image 0.01", cwd)


# ---- help --------------------------------------------------------------------------------------------------


def part_help(recorder: Recorder) -> None:
    """As people see it, and what each command takes as data."""
    import typer

    found: dict[str, Any] = {}

    def walk(command: Any, path: str) -> None:
        takes = {parameter.name: taken(parameter) for parameter in command.params}
        found[path] = {"help": command.help, "takes": takes}
        for name, inner in sorted(getattr(command, "commands", {}).items()):
            walk(inner, f"{path} {name}".strip())

    def show(path: str) -> None:
        command = f"{path} --help".strip()
        done = raydistill(command, recorder.folder("help"), NARROW)
        recorder.keep(f"help/{path.replace(' ', '-') or 'raydistill'}", command, done)

    walk(typer.main.get_command(ours("app")), "")
    recorder.write_json("help/commands", found)
    recorder.each(partial(show, path) for path in found)


def taken(parameter: Any) -> dict[str, Any]:
    names = ("opts", "secondary_opts", "metavar", "required", "multiple", "nargs", "help")
    facts = {name: getattr(parameter, name, None) for name in names}
    return facts | {"default": repr(parameter.default), "type": str(parameter.type_descriptor.annotation)}


# ---- wrong input -------------------------------------------------------------------------------------------

Make = Callable[[Path], Any]
"""Writes what a wrong input needs into its folder."""
WRONG_VALUES = """
unknown-path: student.terms.mi.wieght=0.1
unknown-section: {judge}s.network.width=3
path-of-evaluator: {judge}.network.widht=3
value-of-evaluator: {judge}.network.width=0
wrong-value: student.base.l1_weight=-1
searched: student.terms.mi.weight=0.1
seed: student.seed=7
no-value: student.terms.mi
unknown-term: student.terms.mi.kind=vme
unknown-named-term: student.terms.mi=vme
path-of-other-term: student.terms.mi.kind=vid student.terms.mi.num_steps=3
replay-size: student.terms.mi.replay_size=4
family-of-noise: teacher.generator.family=sagan
width-0: teacher.generator.widths.stem=0
width-fraction: teacher.generator.widths.stem=8.5
too-many-blocks: teacher.generator.num_blocks=257
precision: student.precision=float16
sharding-unknown: student.execution.sharding=ddp
sharding-inline: student.execution.sharding=fsdp
microbatch-0: student.execution.microbatch=0
batch-15: student.batch_size=15
recipe: teacher.recipe=none
data-kind: data.kind=none
budget-0: teacher.budget_nimg=0
height-30: data.height=30 {few}
too-small: data.height=4 data.width=4 {few}
unet-too-deep: teacher.generator.family=unet teacher.generator.num_levels=6 {few}
init-narrow: student.init=teacher teacher.generator.widths.stem=2 {few}
init-other: student.init=teacher teacher.generator.family=unet teacher.generator.num_levels=4 {few}
microbatch-batch-norm: teacher.generator.norm=batch teacher.execution.microbatch=4 {few}
load-size: data.load_height=16 {few}
"""
"""Config paths that a sweep is given."""
WRONG_COMMANDS = """
no-command:
unknown-command: sweeep
sweep-unknown-option: sweep --trails 3
sweep-no-number: sweep --trials many
sweep-trials-0: sweep --trials 0
sweep-sampler: sweep --sampler optuna
sweep-stability-alone: sweep --stability 0.9
sweep-stability-2: sweep --replicates 2 --stability 2
sweep-max-hours-0: sweep --max-hours 0
sweep-executor: sweep --executor remote
sweep-inline-2-workers: sweep --executor inline --workers-per-trial 2
sweep-teacher-workers-3: sweep --teacher-workers 3
sweep-workers-3: sweep --workers-per-trial 3
sweep-gpus-1.5: sweep --gpus-per-worker 1.5
sweep-cpus-0: sweep --cpus-per-worker 0
sweep-data-not-needed: sweep --data somewhere
sweep-early-stopping-late: sweep --early-stopping --set student.report_every_nimg=5000
sweep-store-kind: sweep --store gs://bucket/runs
sweep-mlflow-unreachable: sweep --mlflow http://127.0.0.1:9
sweep-space-unknown: sweep --space defualt
sweep-space-no-file: sweep --space nowhere.py
sweep-objective-form: sweep --objective val/miou
sweep-objective-worst: sweep --objective val/miou:max:low
sweep-objective-unknown: sweep --objective val/mious:max:0 --objective cost/macs:min
sweep-objective-direction: sweep --objective val/miou:min:0 --objective cost/macs:min
sweep-objective-no-worst: sweep --objective val/kd_{judge}:min --objective cost/macs:min
sweep-objective-one: sweep --objective val/miou:max:0
sweep-objective-costs: sweep --objective cost/params:min --objective cost/macs:min
sweep-objective-psnr: sweep {few} --objective val/psnr:max:0 --objective cost/macs:min
sweep-teacher-missing: sweep --teacher nowhere
sweep-plugin-missing: sweep --plugin nowhere.py
sweep-plugin-module: sweep --plugin nothing_of_that_name
sweep-plugin-part: sweep --plugin torch.nn
sweep-max-macs-1000: sweep {few} --max-macs 1000
sweep-min-params-1e9: sweep {few} --min-params 1e9
sweep-max-memory-0.001: sweep {few} --max-memory-gb 0.001
sweep-window-crossed: sweep {few} --min-macs 5e6 --max-macs 2e6
sweep-resume-none: sweep {few} --resume
sweep-resume-name: sweep {few} --resume --name nowhere
sweep-warm-start-missing: sweep {few} --warm-start nowhere
sweep-name: sweep {few} --name a/b
plan-gpus: plan {few} --gpus-per-worker 1 --seconds-per-image 0.01
plan-teacher-gpus: plan {few} --teacher-gpus 1 --seconds-per-image 0.01
data-needed: sweep --space camvid
data-missing: sweep --space camvid --data nowhere
data-layout: sweep --space camvid --data {data}/labelled --set data.layout=cityscapes
data-direction: sweep --space camvid --data {data}/labelled --set data.direction=BtoA
data-degraded-pairs: sweep --space aligned --data {data}/aligned --set data.degrade.scale=2
data-no-labels: sweep --space aligned --data {data}/aligned --objective val/miou:max:0 {macs}
data-scale: sweep --space enhance --data {data}/loose --set data.degrade.scale=4
data-not-unpaired: sweep --space cyclegan --data {data}/loose
data-alone: data
data-unknown: data look
config-space: config --space nowhere
config-path: config --set student.genrator.widths.stem=3
config-value: config --set data.height=-3
config-plugin: config --plugin nowhere.py
front-none: {front} nowhere
front-no-argument: {front}
retrain-none: retrain nowhere --trial 1 --nimg 9
retrain-no-trial: retrain nowhere --nimg 9
retrain-nimg-0: retrain nowhere --trial 1 --nimg 0
inspect-missing: data inspect nowhere
inspect-layout: data inspect {data}/aligned --layout cityscapes
inspect-layout-unknown: data inspect {data}/aligned --layout pairs
inspect-num-0: data inspect {data}/aligned --num 0
fetch-unknown: data fetch facade
fetch-by-hand: data fetch celeba
fetch-unreachable: data fetch facades --mirror http://127.0.0.1:9/sets
fetch-sha: data fetch fashion_mnist --sha256 00
doctor-store: doctor --store gs://bucket/x
evaluator-space: evaluator train --space nowhere
evaluator-data: evaluator train --space camvid
evaluator-path: evaluator train --set {judge}.network.depth=3
latency-missing: latency nowhere
latency-batch-0: latency nowhere --batch-size 0
latency-cuda: latency nowhere --device cuda
export-missing: export nowhere
export-format: export nowhere --format tflite
export-size: export nowhere --size 16
export-size-0: export nowhere --size 0x16
import-missing: teacher import nowhere.pth
import-size: teacher import nowhere.pth --size axb
batch-missing: batch nowhere.py
batch-missing-resume: batch nowhere.py --resume
evaluate-none: evaluate
evaluate-no-data: evaluate {data}/loose
evaluate-missing: evaluate nowhere --real {data}/loose --paired
evaluate-real-missing: evaluate {data}/loose --real nowhere --paired
evaluate-both: evaluate {data}/loose --real {data}/loose --data shapes
evaluate-nothing: evaluate {data}/loose --real {data}/loose
evaluate-split: evaluate {data}/loose --data shapes --split all
evaluate-extractor-kind: evaluate {data}/loose --real {data}/loose --extractor resnet=x
evaluate-extractor-file: evaluate {data}/loose --real {data}/loose --extractor vgg16=x
evaluate-segmenter: evaluate {data}/loose --real {data}/loose --segmenter drn=x
evaluate-option: evaluate {data}/labelled/val/images --data {data}/labelled {option} nowhere
evaluate-num: evaluate {data}/loose --real {data}/loose --paired --num 99
evaluate-sizes: evaluate {data}/loose --real {data}/classes/cats --paired --num 8
evaluate-counts: evaluate {data}/unpaired/trainA --real {data}/unpaired/trainB --paired
evaluate-set: evaluate {data}/loose --data shapes --paired --set data.num_tran=3
evaluate-against: evaluate {data}/loose --real {data}/loose --paired --against nowhere
"""


def text_file(name: str, text: str | bytes) -> Make:
    def make(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    return make


def both(first: Make, second: Make) -> Make:
    def make(folder: Path) -> None:
        first(folder)
        second(folder)

    return make


def wrong_files(few: str) -> dict[str, tuple[str, Make]]:
    """Name -> command and what it finds: stores, tables, teachers."""
    old = "--warm-start old.csv"
    return {
        "warm-sampler": (f"sweep {few} {old} --sampler tpe", text_file("old.csv", "a\n1\n")),
        "warm-column": (f"sweep {few} {old}", text_file("old.csv", "a,val/miou\n1,2\n")),
        "warm-broken": (f"sweep {few} --warm-start old.json", text_file("old.json", "{broken")),
        "mlflow-file": (f"sweep {few} --mlflow sqlite:///file/mlflow.db", text_file("file", "")),
        "store-file": ("sweep --store file/runs", text_file("file", "")),
        "store-version": ("sweep", text_file("runs/store.json", '{"store_version": 99}')),
        "store-other": ("sweep --store home", text_file("home/letter.txt", "dear")),
        "teacher-channels": (f"sweep {few} --teacher cyclegan-imported", partial(imported, "cyclegan")),
        "teacher-noise": (f"sweep {few} --teacher sagan-imported", partial(imported, "sagan")),
        "evaluate-script": (
            "evaluate x --real x --extractor torchscript=x.pt",
            both(lambda folder: loose(folder / "x", 3), text_file("x.pt", b"\0" * 99)),
        ),
    }


def imported(name: str, folder: Path) -> None:
    published(name, folder)
    raydistill(f"teacher import {name}.pth", folder)


WRONG_SPACES = """
none: ANOTHER = 1
raises: 1 / 0
syntax: SPACE =
path: SPACE = space({{"student.generator.width.stem": Int(low=2, high=8)}})
width-0: SPACE = space({{"{stem}": Int(low=0, high=4)}})
step: SPACE = space({{"{stem}": Int(low=2, high=7, step=2)}})
low-above-high: SPACE = space({{"{stem}": Int(low=8, high=2)}})
log-0: SPACE = space({{"student.terms.mi.step_size": Float(low=0, high=2, log=True)}})
no-options: SPACE = space({{"{weight}": Choice(options={{}})}})
not-of-the-student: SPACE = space({{"teacher.l1_weight": Float(low=1, high=2)}})
family: SPACE = space({{"student.generator.family": Choice(options={{"a": "unet"}})}})
preset: SPACE = space(FINE, preset="shapes33")
uniform: SPACE = space(FINE, uniform=(4, 4))
when: SPACE = space(FINE, when={{"{stem}": When(parameter="{weight}", keys=("no",))}})
when-no-choice: SPACE = space(FINE, when={{"{weight}": When(parameter="{stem}", keys=("2",))}})
needs: SPACE = space(FINE, needs={{"student.l1": When(parameter="student.terms.mi.kind", keys=("vem",))}})
window: SPACE = space(FINE, constraints=(Window(cost="cost/time", high=3),))
fidelity: SPACE = space(FINE, fidelity="student.budget")
field: SPACE = space(FINE, budgets=3)
"""
SPACE_FILE = """\
from {module} import Choice, Float, Int, Objective, SearchSpace, When, Window
MIOU = Objective(name="val/miou", direction="max", reference=0.0)
BOTH = (MIOU, Objective(name="cost/macs", direction="min"))
FINE = {{"{stem}": Int(low=2, high=8, step=2), "{weight}": Choice(options={{"off": 0.0, "on": 0.1}})}}
def space(parameters, **others):
    fields = {{"preset": "shapes32", "uniform": (4,), "objectives": BOTH}}
    return SearchSpace(**(fields | {{"parameters": parameters}} | others))
"""


def wrong_spaces() -> dict[str, tuple[str, Make]]:
    """Search spaces of the user's own."""
    words = {"stem": "student.generator.widths.stem", "weight": "student.terms.mi.weight"}
    head = SPACE_FILE.format(module=module_of("Objective"), **words)
    lines = listed(WRONG_SPACES, **words)
    return {
        f"space-{name}": ("config --space mine.py", text_file("mine.py", f"{head}{line}\n"))
        for name, line in lines.items()
    }


def wrong_data() -> dict[str, tuple[str, Make]]:
    """Folders of pictures."""

    def few(folder: Path) -> None:
        labelled(folder / "data", 6, 2)

    def a_list(folder: Path) -> None:
        for kind, array in zip(("images", "labels"), draw(1, 8, 8), strict=True):
            save(folder / f"data/{kind}/1.png", array)

    def grey(folder: Path) -> None:
        loose(folder / "data", 14, 16, 16)
        save(folder / "data/003.png", draw(3, 16, 16)[0][..., 0])

    def odd(folder: Path) -> None:
        aligned(folder / "data", 12, 8)
        save(folder / "data/005.png", draw(0, 15, 8)[0])

    def unsafe(folder: Path) -> None:
        with zipfile.ZipFile(folder / "data", "w") as archive:
            archive.writestr("../outside.png", b"")
        (folder / "data").rename(folder / "data.zip")

    def without_file(name: str) -> Make:
        return both(few, lambda folder: (folder / "data" / name).unlink())

    def with_file(name: str, text: str | bytes) -> Make:
        return both(few, text_file(f"data/{name}", text))

    found: dict[str, tuple[str, Make]] = {
        "empty": ("camvid", lambda folder: (folder / "data").mkdir()),
        "single-picture": ("camvid", without_file("train/labels/003.png")),
        "single-label": ("camvid", without_file("train/images/003.png")),
        "class-ids": ("camvid", with_file("classes.json", '{"classes": ["a", "b"]}')),
        "classes-json": ("camvid", with_file("classes.json", "{")),
        "broken-picture": ("camvid", with_file("val/images/001.png", b"not a picture")),
        "label-size": (
            "camvid",
            both(few, lambda folder: save(folder / "data/val/labels/001.png", draw(1, 8, 8)[1])),
        ),
        "list": ("camvid", both(a_list, text_file("data/train.txt", "1\n2\n"))),
        "odd-width": ("aligned", odd),
        "too-few": ("aligned", lambda folder: aligned(folder / "data", 3, 8)),
        "one-domain": ("cyclegan", lambda folder: loose(folder / "data/trainA", 4, 8, 8)),
        "grey": ("sagan", grey),
        "unsafe-zip": ("sagan", unsafe),
    }
    suffix = {"unsafe-zip": ".zip"}
    return {
        f"data-{name}": (f"sweep --space {space} --data data{suffix.get(name, '')}", make)
        for name, (space, make) in found.items()
    }


class Call:
    """Not a tensor: reading it would have to call something."""

    def __reduce__(self) -> Any:
        return os.getpid, ()


def net(content: Any) -> Make:
    """A PyTorch file; a number stands for a tensor of that size."""

    def make(folder: Path) -> None:
        import torch

        whole = content() if callable(content) else content
        if isinstance(whole, dict):
            whole = {
                name: torch.zeros(value) if type(value) is int else value for name, value in whole.items()
            }
        torch.save(whole, folder / "net.pth")

    return make


def lacking() -> dict[str, Any]:
    return {name: value for name, value in resnet_file().tensors.items() if name != "model.4.weight"}


def wrong_checkpoints() -> dict[str, tuple[str, Make]]:
    critic = {"model.0.weight": 3, "model.0.bias": 3, "model.2.weight": 3}
    found: dict[str, Make] = {
        "empty": text_file("net.pth", b""),
        "noise": text_file("net.pth", bytes(range(256)) * 20),
        "page": text_file("net.pth", "<!DOCTYPE html><html>Quota exceeded</html>"),
        "pointer": text_file("net.pth", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "list": net([1, 2]),
        "no-weights": net({"epoch": 1.0, "loss": {"a": 1}}),
        "unknown": net({"encoder.0.weight": 3, "decoder.1.bias": 3}),
        "critic": net(critic),
        "lacking": net(lacking),
        "left-over": net(lambda: resnet_file().tensors | {"model.10.conv_block.9.weight": 3}),
        "call": net({"model.1.weight": Call()}),
        "pickle": text_file("net.pth", pickle.dumps(Call())),
        "size-unfit": lambda folder: published("pix2pix", folder).rename(folder / "net.pth"),
        "out": both(net(lambda: unet_file().tensors), text_file("net-imported/x", "")),
    }
    size = {"size-unfit": " --size 30x30"}
    return {
        f"import-{name}": (f"teacher import net.pth{size.get(name, '')}", make)
        for name, make in found.items()
    }


WRONG_PLUGINS = {
    "nothing": "x = 1\n",
    "syntax": "x = \n",
    "import": "import nothing_of_that_name\n",
    "raises": "\nraise SystemError('no')\n",
    "number": "GENERATORS = 3\n",
    "entry": "TERMS = {'a': 3}\n",
}
WRONG_BATCHES = """
none: ANOTHER = 1
raises: 1 / 0
no-spaces: BATCH = batch(spaces=())
two-seeds: BATCH = batch(seeds=(0, 0))
name: BATCH = batch(name="../night")
field: BATCH = batch(sedes=(1,))
budget: BATCH = batch(budget=Budget(hours=0))
data: BATCH = batch(data={{"camvid": "somewhere"}})
space: BATCH = batch(spaces=("defualt",))
option: BATCH = batch(options={{"trails": 2}})
own-option: BATCH = batch(options={{"seed": 2}})
same-methods: BATCH = batch(methods=(Method(name="a"), Method(name="b")))
many: BATCH = batch(spaces=("default", "nowhere"), methods=(Method(name="a", set={{"student.seed": 3}}),))
fine: BATCH = batch()
nothing-to-resume: BATCH = batch()
"""
BATCH_FILE = """\
from {module} import Batch, Budget, Method
def batch(**others):
    methods = (Method(name="a"), Method(name="b", set={{"student.terms.mi.num_steps": 2}}))
    fields = {{"name": "night", "spaces": ("default",), "seeds": (0, 1), "options": {{"trials": 2}}}}
    return Batch(**(fields | {{"methods": methods, "set": {few!r}}} | others))
"""


def wrong_code() -> dict[str, tuple[str, Make]]:
    """Plug-ins and batches."""
    out: dict[str, tuple[str, Make]] = {
        f"plugin-{name}": ("config --plugin mine.py", text_file("mine.py", text))
        for name, text in WRONG_PLUGINS.items()
    }
    out["plugin-name"] = ("config --plugin a-b.py", text_file("a-b.py", ""))
    head = BATCH_FILE.format(module=module_of("Batch"), few=FEW)
    for name, line in listed(WRONG_BATCHES).items():
        resume = " --resume" if name == "nothing-to-resume" else ""
        out[f"batch-{name}"] = (f"batch night.py --plan{resume}", text_file("night.py", f"{head}{line}\n"))
    return out


def part_errors(recorder: Recorder) -> None:
    words = recorder.words._asdict()
    few = " ".join(f"{path}={value}" for path, value in FEW.items())
    wrongs: dict[str, tuple[str, Make | None]] = {
        f"set-{name}": (f"sweep {' '.join(f'--set {value}' for value in values.split())}", None)
        for name, values in listed(WRONG_VALUES, few=few, **words).items()
    }
    commands = listed(
        WRONG_COMMANDS, few=sets(FEW), data=recorder.data, macs="--objective cost/macs:min", **words
    )
    for found in ({name: (command, None) for name, command in commands.items()}, wrong_files(sets(FEW))):
        wrongs |= found
    for found in (wrong_spaces(), wrong_data(), wrong_checkpoints(), wrong_code()):
        assert not set(found) & set(wrongs)
        wrongs |= found

    def run(name: str, command: str, make: Make | None) -> None:
        cwd = recorder.folder(f"errors/{name}")
        if make is not None:
            make(cwd)
        recorder.run(f"errors/{name}", command, cwd)

    recorder.each(partial(run, name, *wrong) for name, wrong in wrongs.items())


PARTS: dict[str, Callable[[Recorder], None]] = {
    **{"sweeps": part_sweeps, "samplers": part_samplers, "plans": part_plans},
    **{"outputs": part_outputs, "help": part_help, "errors": part_errors},
}


def record(out: Path, parts: Sequence[str], jobs: int, keep: bool) -> int:
    """Writes the record, a folder a part; what was there of these parts is replaced."""
    import raydistill as package

    assert Path(str(package.__file__)).is_relative_to(ROOT), f"imported from elsewhere: {package.__file__}"
    work = Path(tempfile.mkdtemp(prefix="goldens-"))
    print(f"working in {work}")
    forks = Forks(work, jobs)
    try:
        recorder = Recorder(out.absolute(), work, jobs, words_of(work), forks)
        for name, make in DATA.items():
            make(recorder.data / name)
        for part in parts:
            started = time.monotonic()
            shutil.rmtree(out / part, ignore_errors=True)
            PARTS[part](recorder)
            count = sum(path.is_file() for path in (out / part).rglob("*"))
            print(f"{part}: {count} files, {time.monotonic() - started:.0f} s", flush=True)
    finally:
        forks.close()
        if not keep:
            shutil.rmtree(work, ignore_errors=True)
    return 0


# ---- comparing ---------------------------------------------------------------------------------------------

SAME, RENAMED, OLD_WORD, AS_EXPECTED, DIFFERENT = KINDS = (
    *("same to the bit", "renamed", "old word left"),
    *("expected", "DIFFERENT"),
)
"""Kinds of lines, the worst last; a file is of the kind of its worst line. Lines that differ in runs of
spaces alone, as tables do around a longer number, count as renamed."""


class Line(NamedTuple):
    """One thing to compare: a line of text, a cell of a table, a leaf of JSON."""

    plain: str
    """Masked."""
    loose: str
    """Without runs of spaces and the frames of tables, whose widths change with words."""
    renamed: str
    """That with every old word replaced."""


def masked(text: str) -> str:
    for pattern, stands_for, _ in MASKS:
        text = re.sub(pattern, stands_for, text)
    return text


def renamed(text: str) -> str:
    for pattern, new in RENAMES:
        text = re.sub(pattern, new, text)
    return text


def loosened(text: str) -> str:
    return " ".join(re.sub(r"[─━│┃╭╮╰╯┌┐└┘├┤]+", " ", text).split())


def line_of(text: str) -> Line:
    return Line(text, loosened(text), loosened(renamed(text)))


def lines_of(name: str, text: str) -> list[Line]:
    """What a file of the record says, thing by thing."""
    if name.endswith(".csv"):
        return list(map(line_of, cells_of(text)))
    text = masked(text)
    if is_prose(name):
        return [Line(word, word, word) for word in loosened(renamed(text)).split()]
    is_json = name.endswith(".json")
    lines = list(map(line_of, leaves_of(json.loads(text), "") if is_json else text.splitlines()))
    if is_json or name.endswith(("-files.txt", "mlflow.txt")):  # the order of these says nothing
        lines.sort(key=lambda line: line.renamed)
    return lines


def is_prose(name: str) -> bool:
    """Whether words are compared, not lines: where one of them is longer, the others wrap elsewhere."""
    return name.startswith("help/") and name.endswith(".txt")


def split(trial: Mapping[str, Any], absent: Mapping[str, Any]) -> dict[str, Any]:
    """A trial with the fields of today. `absent`: what stands in the others of a field that was split."""
    out: dict[str, Any] = {}
    for name, value in trial.items():
        if name in SPLIT and "role" in trial:
            out |= {**absent, **({SPLIT[name][trial["role"]]: value} if trial["role"] in SPLIT[name] else {})}
        else:
            out[name] = value
    return out


def cells_of(text: str) -> Iterator[str]:
    columns = {new: "" for roles in SPLIT.values() for new in roles.values()}
    for number, row in enumerate(split(row, columns) for row in csv.DictReader(io.StringIO(text))):
        label = next((row[name] for name in ("trial_id", "trial", "what") if name in row), str(number))
        for column, value in row.items():
            yield masked(f"{label}: {column} = {'<time>' if column in MASKED_COLUMNS else value}")


def leaves_of(value: Any, path: str) -> Iterator[str]:
    """`path = value`; an empty list or dictionary is a leaf."""
    if isinstance(value, dict) and value:
        for name, inner in split(value, {}).items():
            yield from leaves_of(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves_of(inner, f"{path}[{index}]")
    else:
        yield f"{path} = {json.dumps(value)}"


def compare_lines(
    before: Sequence[Line], after: Sequence[Line], joined: bool
) -> tuple[Counter[str], list[str]]:
    """How many lines are of each kind, and those that differ, as they are printed; joined: side by side."""
    counts: Counter[str] = Counter()
    said: list[str] = []
    old, new = ([line.renamed for line in lines] for lines in (before, after))
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            for sign, lines in (("-", before[a:b]), ("+", after[c:d])):
                texts = [line.plain for line in lines]
                said += [f"{sign} {text}" for text in ([" ".join(texts)] if joined and texts else texts)]
            continue
        for one, other in zip(before[a:b], after[c:d], strict=True):
            is_renamed = one.renamed == other.loose
            counts[SAME if one.plain == other.plain else RENAMED if is_renamed else OLD_WORD] += 1
    return counts, said


def compare_file(name: str, before: str | None, after: str | None) -> tuple[Counter[str], list[str]]:
    if before is None or after is None:
        return Counter(), ["+ (file)" if before is None else "- (file)"]
    if masked(before) == masked(after):
        return Counter({SAME: len(lines_of(name, before))}), []
    return compare_lines(lines_of(name, before), lines_of(name, after), is_prose(name))


def is_expected(name: str, said: str) -> bool:
    return any(fnmatch.fnmatch(name, file) and re.search(pattern, said) for file, pattern, _ in EXPECTED)


def compare_part(before: Path, after: Path, show: int) -> tuple[Counter[str], Counter[str]]:
    """How many files and lines of a part are of each kind; prints what differs."""
    files: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    there = [{renamed(path): folder / path for path in tree_of(folder, ())} for folder in (before, after)]
    for name in sorted({*there[0], *there[1]}):
        texts = [found[name].read_text(encoding="utf-8") if name in found else None for found in there]
        counts, said = compare_file(f"{before.name}/{name}", *texts)
        wrong = [line for line in said if not is_expected(f"{before.name}/{name}", line)]
        if wrong:
            more = [f"... and {len(wrong) - show} more"] if len(wrong) > show else []
            print(f"\n{before.name}/{name}", *wrong[:show], *more, sep="\n  ")
        counts[AS_EXPECTED], counts[DIFFERENT] = len(said) - len(wrong), len(wrong)
        lines += counts
        files[max((kind for kind in KINDS if counts[kind]), key=KINDS.index, default=SAME)] += 1
    return files, lines


def compare(before: Path, after: Path, show: int) -> int:
    """Prints what differs and a summary; 1 where anything does that is not expected, else 0."""
    parts = sorted({path.name for folder in (before, after) for path in folder.iterdir() if path.is_dir()})
    rows: list[tuple[str, str, Counter[str]]] = []
    for part in parts:
        if not (before / part).is_dir() or not (after / part).is_dir():
            print(f"{part}: recorded {'before' if (before / part).is_dir() else 'after'} only, left out")
            continue
        files, lines = compare_part(before / part, after / part, show)
        rows += [(part, "files", files), ("", "lines", lines)]
    print(f"\n{'':10}{'':6}" + "".join(f"{kind:>16}" for kind in KINDS))
    for part, what, counts in rows:
        print(f"{part:10}{what:6}" + "".join(f"{counts[kind]:16,}" for kind in KINDS))
    return int(any(counts[DIFFERENT] for _, _, counts in rows))


def main() -> int:
    if sys.argv[1:] == ["_serve"]:
        return serve()
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="run this tree and write what it says")
    recording.add_argument("out", type=Path)
    names = ", ".join(PARTS)
    recording.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=names
    )
    recording.add_argument("--jobs", type=int, default=2, help="commands at a time")
    recording.add_argument("--keep", action="store_true", help="keep the working folder")
    comparing = commands.add_parser("compare", help="two records")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--show", type=int, default=40, help="lines of a file that are printed at most")
    given = parser.parse_args()
    if given.command == "compare":
        return compare(given.before, given.after, given.show)
    return record(given.out, given.only, given.jobs, given.keep)


if __name__ == "__main__":
    sys.exit(main())
