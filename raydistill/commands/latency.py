"""`raydistill latency`: measures time and memory of generators, each in a process of its own."""

import json
import math
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from raydistill.commands import remeasured
from raydistill.config.network_options import LatencyOptions
from raydistill.errors import ConfigError
from raydistill.exchange.generator_file import inputs_for, open_generator, plain
from raydistill.models import cost
from raydistill.reading import MOST_BYTES
from raydistill.records import measured
from raydistill.records.measured import Measurement
from raydistill.terminal import Terminal
from raydistill.trials import own_process

_WARM_UP = 5
"""Forwards before the first that is timed."""


def run(options: LatencyOptions) -> int:
    """Prints a row for each generator and batch size; returns the exit code, 0.

    Raises:
        InputError: a generator cannot be opened, or there is no such device; raised before anything is
            measured.
    """
    if options.device != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"--device {options.device}: there is no CUDA device here; use cpu")
    for given in options.given:
        generator = open_generator(Path(given), options.size)
        claimed = 4 * max(options.batch_sizes) * math.prod(generator.input_shape)
        if claimed > MOST_BYTES:
            raise ConfigError(
                f"--batch-size {max(options.batch_sizes)}: {given}: its inputs alone would take {claimed:,} "
                f"bytes, at most {MOST_BYTES:,}; give a smaller one"
            )
    trials = {} if options.no_record else remeasured.trials_among(options.given)
    busy = os.getloadavg()[0]
    rows = [
        own_process.call(measure, given, batch_size, options)
        for given in options.given
        for batch_size in options.batch_sizes
    ]
    if options.as_json:
        print(json.dumps({"load_average_before": busy, "rows": rows}, indent=1))
    else:
        title = f"latency, {options.device}, {options.threads} threads, {options.repeats} forwards"
        Terminal().rows(title, pd.DataFrame(rows), keys=["network", "batch_size"], texts=["network"])
        if busy > 0.5:
            print(f"The machine was not idle (load average {busy:.1f}): these times are too long.")
    how = remeasured.how("latency", options, f" (load average {busy:.1f} before)")
    found: dict[str, list[Measurement]] = {given: [] for given in trials}
    for row in rows:
        if (given := row["network"]) in trials:
            found[given] += _measurements(row, options, trials[given], how)
    remeasured.record(found)
    return 0


def _measurements(
    row: Mapping[str, Any], options: LatencyOptions, network: str, how: str
) -> list[Measurement]:
    """What a row of the table says, as it is recorded beside its trial. `network`: digest of what ran."""
    ran_on = f"{options.device}_{options.threads}_threads_batch_{row['batch_size']}"
    conditions = {
        "device": options.device,
        "hardware": _hardware(options.device),
        "threads": options.threads,
        "batch_size": row["batch_size"],
        "size": row["size"],
    }
    return [
        Measurement(
            name=measured.name_of(f"{column.removeprefix('cost/')}/{ran_on}"),
            value=row[column],
            conditions=conditions,
            network=network,
            when=measured.now(),
            how=how,
        )
        for column in ("cost/latency_ms_p50", "cost/latency_ms_p95", "peak_mib")
        if row[column] is not None
    ]


def _hardware(device: str) -> str:
    """What it ran on, in words: the name of the GPU or of the CPU."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def measure(given: str, batch_size: int, options: LatencyOptions) -> dict[str, Any]:
    """Times `options.repeats` forwards of one minibatch, after a warm-up.

    Returns:
        the row of the table. `cost/latency_ms_p50` and `_p95`: median and 95th percentile of a forward, in
        milliseconds. `peak_mib`: on a CPU by how much this process grew above what it had before the first
        forward, without weights, or None where the system does not tell; on a GPU the allocator's peak, with
        weights.
    """
    torch.set_num_threads(options.threads)
    generator, device = open_generator(Path(given), options.size), torch.device(options.device)
    module = plain(generator).to(device)
    example = inputs_for(generator, number=1)[0]
    inputs = example.expand(batch_size, *generator.input_shape).contiguous().to(device)
    milliseconds, before = [], _resident_bytes("VmRSS", reset=True)
    with torch.inference_mode():
        for index in range(_WARM_UP + options.repeats):
            started = time.perf_counter()
            module(inputs)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if index >= _WARM_UP:
                milliseconds.append(1000 * (time.perf_counter() - started))
    if device.type == "cuda":
        peak: int | None = torch.cuda.max_memory_allocated(device)
    else:
        after = _resident_bytes("VmHWM")
        peak = None if before is None or after is None else after - before
    return {
        "network": given,
        "size": f"{generator.height}x{generator.width}",
        "batch_size": batch_size,
        "cost/latency_ms_p50": float(np.percentile(milliseconds, 50)),
        "cost/latency_ms_p95": float(np.percentile(milliseconds, 95)),
        "peak_mib": None if peak is None else peak / 2**20,
        "cost/macs": cost.macs(generator.layers),
        "cost/params": cost.params(generator.layers),
    }


def _resident_bytes(name: str, reset: bool = False) -> int | None:
    """A memory line of /proc/self/status, in bytes; None where there is none.

    `reset`: first sets the peak (VmHWM) back to what the process has now.
    """
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        return None
