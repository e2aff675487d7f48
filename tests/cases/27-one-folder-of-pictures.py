"""The usual shape of a download: celeba/img_align_celeba/*.jpg, a folder in a folder; label maps of a class.

Right: one class is no classes: the evaluator gets a task that it can learn from, and where it learns nothing,
the number is said: an error, unless the training was a try. Label maps of one class are refused.
"""

import numpy as np
from kit import WORK, end, noise, plan, raydistill, refused, require
from PIL import Image

data, flat = WORK / "celeba", WORK / "flat"
noise(data / "img_align_celeba", 60, ending="jpg", side=64)
noise(flat / "images", 20)
(flat / "masks").mkdir()
for index in range(20):
    Image.fromarray(np.full((32, 32), 3, np.uint8)).save(flat / "masks" / f"{index:03d}.png")
for number, code in ((256, 0), (512, 1)):
    budget = ("--set", f"evaluator.budget_nimg={number}", "--set", "evaluator.report_every_nimg=128")
    store = WORK / f"store-{number}"
    words = ("evaluator", "train", "--space", "sagan", "--data", data, "--store", store, *budget)
    done = raydistill(*words)
    require(f"{number} images: exit code {done.code}, not {code}", done.code == code)
    says = "the evaluator does not beat chance on real pictures" in done.text
    require("the number is said", says and "one answer for all of them gives 0.2500" in done.text)
    (log,) = (store / "cache/evaluator").glob("*/log.txt")
    losses = [
        float(word.split("=")[1]) for word in log.read_text().split() if word.startswith("train/evaluator_l")
    ]
    require(f"it had something to learn: {losses}", losses and min(losses) > 0.1)
refused(plan("camvid", flat), "all labels are 3", "two classes", "classes.json")
end()
