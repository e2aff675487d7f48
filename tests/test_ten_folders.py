"""Ten folders as people have them, each from `data inspect` to the end of a smoke sweep."""

from pathlib import Path

import pytest
from ten_folders import FOLDERS, through

SAYS = {
    "phone": "turned or mirrored, as their EXIF orientation says",
    "kaggle_masks": "0 and 255: background and object",
    "voc": "left out: 6 .jpg, 6 .png, 1 .txt, 2 folders (Annotations, SegmentationObject)",
    "coco_stuff": "classes    4",
    "celeba": "left out: 1 .txt",
    "horses": "B: train 16, test 5; A: train 20, test 4",
    "facades": "left out: 3 hidden files",
    "icons": "have transparent pixels: these show white",
    "scans": "left out: 1 .heic, 1 .xlsx",
    "lightning_teacher": "ended by --trials 1",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_comes_from_inspect_to_the_end_of_a_sweep(name: str, tmp_path: Path) -> None:
    code, text = through(name, tmp_path)
    print(text)
    assert code == 0 and SAYS[name] in text and "Pareto front" in text
