"""Folders of splits under other usual names, in any case; and one beside folders that are none.

Right: they are splits. One beside other folders is refused, with the way to say that all are classes.
"""

from kit import WORK, end, facts, inspect, noise, refused, require

counts = {"train": 40, "val": 12, "test": 12}
for names, splits in (
    (("Train", "Test"), ("train", "test")),
    (("training", "testing"), ("train", "test")),
    (("train", "valid", "test"), ("train", "val", "test")),
    (("TRAIN", "Validation", "eval_set"), None),
    (("train2017", "val2017"), ("train", "val")),
):
    data = WORK / "-".join(names)
    for name, number in zip(names, counts.values()):
        noise(data / name, number, prefix=name)
    if splits is None:
        refused(inspect(data), "are both for val")
        continue
    found = facts(data)
    expected = dict(zip(splits, counts.values()))
    require(f"{names}: {found.get('splits')}", found.get("splits") == expected)
    require(f"{names}: no classes", found.get("classes") == [] and found["layout"] == "pictures")
mixed = WORK / "mixed"
for name in ("train", "bus", "car"):
    noise(mixed / name, 10)
refused(inspect(mixed), "train would be splits, but folders bus, car lie beside", "data.layout=classes")
found = inspect(mixed, "--layout", "classes")
require("the way that is said", found.code == 0 and "3, each in 10 to 10 pictures" in found.text)
end()
