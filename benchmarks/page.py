"""Size and speed of a sweep's page: `python benchmarks/page.py --out FOLDER --trials 300 --size 256`.

A sweep that has ended is made up in FOLDER, its page drawn as `raydistill evaluate` draws it again, and the
page opened in headless Chromium: until it says that it is ready, and from a click on a trial until the next
frame. Rows go to stdout as JSON. With --shots, pictures of the page at three widths, light and dark, too.

Scores, pictures and times are random numbers around plain curves, from a fixed seed; they say nothing of the
method.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from raydistill.records import tables
from raydistill.records.files import write_json_atomic
from raydistill.records.schema import typed_evaluations, typed_trials
from raydistill.sweep import page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import browser

OBJECTIVES = (("val/miou", "max"), ("cost/macs", "min"))
REFERENCE = (0.0, 3e9)
WIDTHS = (500, 900, 1400)
REPORTS, BUDGET, ROWS = 12, 120_000, 6
PICTURES = 7
"""So many trials have a picture of their own, as drawing them takes longer than all else."""
CONTEXT = {"extractor": "evaluator", "resize": "none", "split": "val", "num_samples": 500}
CONTEXT |= {"real_statistics": "5d1a0c2f9e8b7a64", "macs_convention": "true", "hardware": "simulated"}
CONTEXT |= {f"digest.{name}": "0e1f2a3b4c5d6e7f" for name in ("teacher", "data", "evaluator")}
BASELINES = [("teacher", "teacher", 2.4e9), ("no_teacher", "no teacher 16", 1.7e8)]
BASELINES += [("uniform", f"uniform {width}", 6.6e5 * width**2) for width in (8, 12, 16, 24, 32)]


def numbers_of(rng: np.random.Generator, miou: float, weight: float | None) -> dict[str, float]:
    """What an evaluation measures, around an mIoU."""
    noise = rng.normal(0, 0.004, 6)
    of_term = (
        {"energy/gap": 0.3 * (weight or 0) + noise[4], "energy/grad_norm": 1 + noise[5]} if weight else {}
    )
    return {
        **{"val/miou": miou, "val/miou_drn": miou * 0.95 + noise[0], "val/psnr": 12 + 15 * miou + noise[1]},
        **{"val/ssim": 0.3 + 0.6 * miou + noise[2], "val/lpips": 0.6 - 0.5 * miou + noise[3]},
        **{"val/kd_evaluator": 0.09 * (0.9 - miou), "val/fd_evaluator": 31 * (0.9 - miou) ** 2},
        **{"train/l1": 0.31 - 0.2 * miou, "train/loss": 2 - miou, "train/grad_norm": 1 + noise[1] ** 2},
        **of_term,
    }


def trial_of(number: int, count: int, rng: np.random.Generator) -> tuple[dict[str, Any], float | None]:
    """One row of the trials table, and its final mIoU; None: it failed."""
    weight: float | None = float(rng.choice([0.0, 0.03, 0.1, 0.3, 1.0]))
    if number < len(BASELINES):
        role, label, macs = BASELINES[number]
        weight = 0.0 if role == "uniform" else None
    else:
        role, label, macs = "search", "", float(10 ** rng.uniform(7, 9.2))
    widths = [int(width) for width in np.clip((macs / 6.6e5) ** 0.5 * rng.uniform(0.6, 1.6, 6), 4, 64)]
    miou = 0.87 - 0.55 * np.exp(-((macs / 1.5e8) ** 0.45)) - abs(rng.normal(0, 0.05))
    miou = 0.873 if role == "teacher" else miou - (0.08 if role == "no_teacher" else 0)
    status = "COMPLETE"
    if role == "search" and number % 9 == 0:
        status = "FAIL" if number % 27 == 0 else "PRUNED"
    params = {f"param.student.generator.widths.w{index}": width for index, width in enumerate(widths)}
    params |= {
        "param.student.terms.mi.weight": weight,
        "param.student.learning_rate": 10 ** rng.uniform(-4.5, -3),
    }
    params |= {"param.student.generator.norm": str(rng.choice(["batch", "instance"]))}
    params |= {"param.student.terms.mi.step_size": 10 ** rng.uniform(-3, 0)} if weight else {}
    seconds = float(60 + macs / 1e7 * rng.uniform(0.9, 1.1))
    row = {
        **{"sweep_id": "simulated", "schema_version": 1, "trial_id": f"{number:04d}", "role": role},
        **{"trial_key": f"{number:016x}", "label": label or "-".join(map(str, widths)), "seed": 0},
        **{"status": status, "nimg": BUDGET, "budget_nimg": BUDGET, "wall_sec": seconds, "gpu_sec": seconds},
        **{
            "reason": {"FAIL": "DivergenceError: energy/gap left its range", "PRUNED": "stopped"}.get(
                status, ""
            )
        },
        **{"scoring_sec": seconds / 10, "peak_memory_gb": 0.4 + macs / 2e9, "git_revision": "0123abc"},
        **{"cost.macs": macs, "cost.params": macs / 350, "cost.memory_gb": 0.2 + macs / 4e9, **CONTEXT},
        **(params if role != "teacher" else {}),
    }
    return row, None if status == "FAIL" else float(miou)


def simulate(folder: Path, count: int, size: int) -> None:
    """Writes the tables, pictures and page's record of a sweep of `count` trials, pictures of size x size."""
    rng = np.random.default_rng(0)
    rows, points = [], []
    for number in range(count):
        row, miou = trial_of(number, count, rng)
        weight = row.get("param.student.terms.mi.weight")
        part = REPORTS // 2 if row["status"] == "PRUNED" else REPORTS
        for step in range(1, part + 1 if miou else 2):
            now = numbers_of(rng, (miou or 0.2) * (1 - 0.6 * 0.7**step), weight)
            at = (
                row["sweep_id"],
                row["trial_id"],
                0,
                BUDGET * step // REPORTS,
                row["wall_sec"] * step / REPORTS,
            )
            points += [(1, *at, name, value) for name, value in now.items()]
        final = numbers_of(rng, miou, weight) if miou else {}
        rows.append(row | {f"metric.{name}": value for name, value in final.items()})
        file = folder / "trials" / row["trial_id"] / "samples.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        same = folder / "trials" / f"{number % PICTURES + 2:04d}" / "samples.png"
        if same.exists():
            shutil.copyfile(same, file)
        else:
            picture(file, rng, size)
    repeated = [row for row in rows if row["role"] == "search" and row["status"] == "COMPLETE"]
    for number, row in enumerate(sorted(repeated, key=lambda row: -row["metric.val/miou"])[:6]):
        again = {
            "trial_id": f"{count + number:04d}",
            "role": "replicate",
            "replicate_of": row["trial_id"],
            "seed": 1,
        }
        rows.append(row | again | {"metric.val/miou": row["metric.val/miou"] + float(rng.normal(0, 0.012))})
    columns = ["schema_version", "sweep_id", "trial_id", "seed", "nimg", "wall_sec", "metric", "value"]
    table = tables.with_front(typed_trials(pd.DataFrame(rows)), OBJECTIVES, REFERENCE)
    tables.write_tables(folder, table, typed_evaluations(pd.DataFrame(points, columns=columns)))
    record = page.PageRecord(
        title=f"raydistill: {folder.name}",
        objectives=OBJECTIVES,
        reference=REFERENCE,
        facts={"ended by": f"--trials {count}", "data": "simulated"},
        ceiling=0.91,
    )
    write_json_atomic(folder / page.FILE, record.model_dump(mode="json"))


def picture(path: Path, rng: np.random.Generator, size: int) -> None:
    """A grid of pictures: coloured areas with soft edges and grain, as pictures of streets have."""
    columns = 4
    coarse = rng.integers(0, 255, (ROWS * 8, columns * 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((columns * size, ROWS * size), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 5, (ROWS * size, columns * size, 1))
    Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)).save(path)


READY = "document.documentElement?.dataset.ready === 'yes'"


async def measured(file: Path, clicks: int) -> dict[str, float]:
    """Milliseconds until the page is ready, and from clicks on trials until the frame after.

    Those with `cpu` are seconds that the page's main thread computed: other processes do not count.
    """
    async with browser.page(1400, 1000) as tab:
        await tab.call("Performance.enable", timeDomain="threadTicks")
        await tab.open(file.as_uri())
        await tab.wait_for(READY, 120)
        ready = await tab.value("performance.getEntriesByName('ready')[0].startTime")
        ready_cpu = await cpu_ms(tab)
        await asyncio.sleep(3)
        times, before = [], await cpu_ms(tab)
        for number in range(clicks):
            times.append(await clicked(tab, number))
        click_cpu = (await cpu_ms(tab) - before) / clicks
        named = {"ready_ms": ready, "ready_cpu_ms": ready_cpu, "click_ms": statistics.median(times)}
        return named | {"slowest_click_ms": max(times), "click_cpu_ms": click_cpu}


async def cpu_ms(tab: browser.Page) -> float:
    """Milliseconds that the page's main thread has computed."""
    metrics = (await tab.call("Performance.getMetrics"))["metrics"]
    return 1000 * float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


async def clicked(tab: browser.Page, number: int) -> float:
    """Milliseconds from a click on the button of a row to the frame after."""
    script = """new Promise((done) => {
      const buttons = document.querySelectorAll("#trials button");
      const begun = performance.now();
      buttons[(NUMBER * 7) % buttons.length].click();
      requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
    })""".replace("NUMBER", str(number))
    result = await tab.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
    return float(result["result"]["value"])


async def shots(file: Path, folder: Path, height: int) -> None:
    """Pictures of the page: three widths, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        for dark in (False, True):
            async with browser.page(width, height, dark=dark) as tab:
                await tab.open(file.as_uri())
                await tab.wait_for(READY, 120)
                await asyncio.sleep(1)
                await tab.save(folder / f"{file.parent.name}-{width}-{'dark' if dark else 'light'}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the sweeps that are made up")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--size", type=int, default=256, help="height and width of a picture")
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--shots", type=int, default=0, metavar="HEIGHT", help="draw pictures of that height")
    options = parser.parse_args()
    folder = options.out / f"trials-{options.trials}"
    if not (folder / page.FILE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        simulate(folder, options.trials, options.size)
    begun, cpu_begun = time.perf_counter(), time.process_time()
    page.renew(folder)
    drawn, cpu = time.perf_counter() - begun, time.process_time() - cpu_begun
    file = folder / "frontier.html"
    row = {
        "trials": options.trials,
        "size": options.size,
        "draw_s": round(drawn, 2),
        "draw_cpu_s": round(cpu, 2),
    }
    row |= {"mib": round(file.stat().st_size / 2**20, 2)}
    row |= {name: round(value) for name, value in asyncio.run(measured(file, options.clicks)).items()}
    print(json.dumps(row))
    if options.shots:
        asyncio.run(shots(file, options.out / "shots", options.shots))


if __name__ == "__main__":
    main()
