"""What recording teachers that train beside students saves: `python benchmarks/record.py --out FILE.jsonl`.

Base `omgd` on the embedded pictures, default networks, without a term. Three trainings of --nimg images take
turns: one that trains its teachers, one that records them, too, and one that reads the record. Seconds are
those that the process computes (CPU time), one thread, with the start of the training and one evaluation.
Ratios are taken within a turn. What is read has random weights, which changes no time.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.config.training import Execution
from raydistill.data import read_info
from raydistill.testing import begin
from raydistill.training import recording
from raydistill.training.loop import train

WAYS = ("trains", "records", "reads")
GIB = 2**30


def job_of(size: int, nimg: int, folder: Path, values: dict[str, Any]) -> Job:
    """A student's training of `nimg` images of size x size."""
    set_here = {"student.base.kind": "omgd", "student.terms.mi.weight": 0.0, "data.height": size}
    set_here |= {"data.width": size, "student.budget_nimg": nimg, "student.report_every_nimg": nimg}
    return begin(folder, with_values(shapes32(), set_here | values, where="benchmark"), "student").job


def seconds_of(way: str, job: Job, folder: Path) -> float:
    """CPU seconds of one training in an empty folder."""
    if way == "records":
        for record in records_of(job):
            shutil.rmtree(record)
    limit = 0.0 if way == "trains" else 1e3
    execution = Execution(record_teachers_gb=limit)
    job = job.model_copy(update={"training": job.training.model_copy(update={"execution": execution})})
    shutil.rmtree(folder, ignore_errors=True)
    started = time.process_time()
    train(job, report=lambda evaluation: None, state_dir=folder)
    seconds = time.process_time() - started
    (checkpoint,) = folder.glob("checkpoint-*")
    assert (checkpoint / "wide.safetensors").exists() == (way != "reads")
    return seconds


def records_of(job: Job) -> list[Path]:
    """The records in the teacher's folder."""
    assert job.teacher is not None
    return list(Path(job.teacher.path).glob("record-*"))


def main() -> None:
    """Measures, and prints the medians of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--nimg", type=int, default=640)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="student.base.student_steps=3")
    parser.add_argument("--folder", type=Path, default=Path("runs/record"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    values = {path: json.loads(text) for path, _, text in (each.partition("=") for each in options.set)}
    shutil.rmtree(options.folder, ignore_errors=True)
    for size in options.sizes:
        job = job_of(size, options.nimg, options.folder / str(size), values)
        turns = []
        for turn in range(options.turns):
            found = {way: seconds_of(way, job, options.folder / way) for way in WAYS}
            turns.append(found)
            row = {"size": size, "nimg": options.nimg, "turn": turn, "set": options.set, **found}
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
        medians = {way: statistics.median(each[way] for each in turns) for way in WAYS}
        ratios = {way: statistics.median(each[way] / each["trains"] for each in turns) for way in WAYS[1:]}
        whole = shapes32().student.budget_nimg
        training = job.training.model_copy(update={"budget_nimg": whole})
        gib = recording.num_bytes(training, read_info(job.data)) / GIB
        seconds = ", ".join(f"{way} {medians[way]:.2f} s" for way in WAYS)
        shares = ", ".join(f"{way} / trains {ratios[way]:.3f}" for way in WAYS[1:])
        print(f"{size}x{size}: {seconds}; {shares}; a record of {whole:,} images takes {gib:.2f} GiB")


if __name__ == "__main__":
    main()
