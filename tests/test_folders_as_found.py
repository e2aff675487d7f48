"""Folders as people have them: everything below the root is used, or counted and said, or refused."""

import json
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raydistill.config.data import FolderData
from raydistill.data import prepare, read_info
from raydistill.data.detect import find
from raydistill.data.folder_names import domain_of, split_of
from raydistill.data.sample import SplitsOnDisk
from raydistill.errors import DataError


def fill(folder: Path, number: int = 3, ending: str = ".png", prefix: str = "", size: int = 8) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        Image.new("RGB", (size, size), (index, 9, 9)).save(folder / f"{prefix}{index}{ending}")
    return folder


def labels(folder: Path, number: int = 3, ending: str = ".png", prefix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.arange(64, dtype=np.uint8).reshape(8, 8) // 32
    for index in range(number):
        Image.fromarray(ids).save(folder / f"{prefix}{index}{ending}")
    return folder


def counts(on_disk: SplitsOnDisk) -> dict[str, int]:
    return {split: len(samples) for split, samples in on_disk.splits.items()}


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        find(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def packed(root: Path) -> Path:
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root).as_posix())
    return path


# ---- used, or said -----------------------------------------------------------------------------------------


def test_what_no_layout_takes_is_counted_by_ending_folder_and_kind(tmp_path: Path) -> None:
    fill(labels(tmp_path / "labels").parent / "images")
    fill(tmp_path / "depth", 4)
    fill(tmp_path / "images" / ".thumbs", 2)
    for name in ("README.md", "LICENSE", "a.heic", "b.heic", "Thumbs.db", "labels/notes.txt"):
        (tmp_path / name).write_text("")
    said = "2 .heic, 1 .md, 1 .txt, 1 without an ending, 1 folder (depth), 2 hidden files"
    assert find(tmp_path).left_out == said
    info = read_info(prepare(_config(fill(tmp_path / "x", 12)), tmp_path / "cache"))
    assert info.left_out == ""


def _config(root: Path) -> FolderData:
    return FolderData(root=str(root), height=8, width=8)


def test_what_is_left_out_changes_no_digest_and_is_said_anew(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", 12)
    first = prepare(_config(root), tmp_path / "cache")
    (root / "list.csv").write_text("")
    second = prepare(_config(root), tmp_path / "cache")
    assert second == first and read_info(second).left_out == "1 .csv"
    (root / "list.csv").unlink()
    assert read_info(prepare(_config(root), tmp_path / "cache")).left_out == ""


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_folder_and_a_zip_file_of_it_are_understood_alike(tmp_path: Path, is_packed: bool) -> None:
    root = tmp_path / "data"
    for split, number in (("Train", 5), ("VALID", 2), ("testing", 2)):
        for name in ("a", "b"):
            fill(root / "inner" / split / name, number)
    (root / "list.txt").write_text("")
    on_disk = find(packed(root) if is_packed else root)
    assert (on_disk.layout, on_disk.class_names) == ("classes", ("a", "b"))
    assert counts(on_disk) == {"train": 10, "val": 4, "test": 4} and on_disk.left_out == "1 .txt"


def test_other_arrays_and_files_beside_an_archive_are_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((9, 8, 8), np.uint8), depth=np.zeros((9, 8)))
    (tmp_path / "licence.txt").write_text("")
    assert find(tmp_path).left_out == "arrays depth (9, 8); beside a.npz: 1 .txt"


# ---- splits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("TRAIN", "train"), ("Training", "train"), ("training_set", "train"), ("train2017", "train")),
        *(("Valid", "val"), ("validation", "val"), ("eval", "val"), ("dev", "val"), ("val-2014", "val")),
        *(
            ("Testing", "test"),
            ("test_data", "test"),
            ("trains", None),
            ("contest", None),
            ("testament", None),
        ),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_names_of_domains() -> None:
    assert domain_of("trainA") == ("train", "A") and domain_of("Valid_b") == ("val", "B")
    assert domain_of("data") is None and domain_of("A") is None and domain_of("") is None


def test_splits_beside_other_folders_or_pictures_are_refused_with_the_way(tmp_path: Path) -> None:
    fill(tmp_path / "coco" / "train")
    fill(tmp_path / "coco" / "bus")
    assert "data.layout=classes" in refusal(tmp_path / "coco")
    assert find(tmp_path / "coco", "classes").class_names == ("bus", "train")
    fill(tmp_path / "loose" / "train")
    fill(tmp_path / "loose")
    assert "loose pictures lie beside them" in refusal(tmp_path / "loose")
    fill(tmp_path / "inside" / "cat" / "train")
    fill(tmp_path / "inside" / "cat" / "test")
    fill(tmp_path / "inside" / "dog" / "train")
    assert "Put the splits above the classes: test/cat" in refusal(tmp_path / "inside")
    fill(tmp_path / "none" / "val")
    fill(tmp_path / "none" / "test")
    assert "without a folder for train" in refusal(tmp_path / "none")
    fill(tmp_path / "bare" / "train" / "a")
    fill(tmp_path / "bare" / "train" / "b")
    fill(tmp_path / "bare" / "test")
    assert "pictures of test lie in no class folder" in refusal(tmp_path / "bare")
    for name in ("val", "valid", "train"):
        fill(tmp_path / "twice" / name)
    assert "val and valid are both for val" in refusal(tmp_path / "twice")


def test_domains_by_other_names_and_at_any_depth(tmp_path: Path) -> None:
    fill(tmp_path / "data" / "Train_A" / "day" / "one", 4)
    fill(tmp_path / "data" / "TrainB", 3)
    fill(tmp_path / "data" / "validA", 2)
    fill(tmp_path / "data" / "validB", 2)
    on_disk = find(tmp_path / "data")
    assert on_disk.inputs is not None and on_disk.layout == "unpaired"
    assert {split: len(samples) for split, samples in on_disk.inputs.items()} == {"train": 4, "val": 2}
    assert "look like two domains" in refusal(tmp_path)


# ---- pairs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pictures", "masks", "ending", "prefix"),
    [
        ("images", "masks", ".png", ""),
        ("Images", "Annotations", ".tif", ""),
        ("imgs", "GT", "_mask.gif", ""),
        ("JPEGImages", "SegmentationClass", ".png", "2007_"),
        ("images/part1/deep", "labels/part1/deep", "_L.bmp", ""),
    ],
)
def test_pairs_by_the_names_that_people_give(
    tmp_path: Path, pictures: str, masks: str, ending: str, prefix: str
) -> None:
    fill(tmp_path / pictures, ending=".jpg", prefix=prefix)
    labels(tmp_path / masks, ending=ending, prefix=prefix)
    (tmp_path / "SegmentationObject").mkdir()
    (tmp_path / "annotation").mkdir()
    (tmp_path / "annotation" / "0.xml").write_text("")
    on_disk = find(tmp_path)
    assert on_disk.layout == "labelled" and counts(on_disk) == {"train": 3}
    assert on_disk.left_out == "1 folder (annotation)"
    assert all(sample.label and Path(sample.label.name).stem[:1] for sample in on_disk.splits["train"])


def test_splits_inside_of_images_and_lists_of_voc(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        fill(tmp_path / "coco" / "images" / split, ending=".jpg")
        labels(tmp_path / "coco" / "annotations" / split)
    assert counts(find(tmp_path / "coco")) == {"train": 3, "val": 3}
    fill(tmp_path / "coco" / "images")
    assert "lie beside them" in refusal(tmp_path / "coco")
    voc = tmp_path / "kit" / "VOC2012"
    fill(voc / "JPEGImages", 9, ".jpg")
    labels(voc / "SegmentationClass", 6)
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, lines in (
        ("train", "0\r\n1\r\n2\r\n\r\n"),
        ("val", "JPEGImages\\3.jpg\n4.jpg\n"),
        ("trainval", "0\n"),
    ):
        (voc / "ImageSets" / "Segmentation" / f"{name}.txt").write_bytes(lines.encode())
    on_disk = find(voc)
    assert counts(on_disk) == {"train": 3, "val": 2}
    assert on_disk.left_out == "4 .jpg, 1 .png, 1 .txt"
    assert "look like pictures and label maps" in refusal(tmp_path / "kit")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("\n\n")
    assert "val.txt: the list is empty" in refusal(voc)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("3\n98\n99\n")
    assert "for the line '98'. Lines without a pair: 2 of 3" in refusal(voc)


def test_label_maps_among_their_pictures_as_jpeg_or_in_two_folders_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "among")
    labels(tmp_path / "among", ending="_mask.png")
    assert "looks like the label map of 0.png beside it" in refusal(tmp_path / "among")
    fill(tmp_path / "jpeg" / "images")
    labels(tmp_path / "jpeg" / "masks", ending=".jpg")
    assert "a label map as .jpg: this format smears ids" in refusal(tmp_path / "jpeg")
    fill(tmp_path / "two" / "images")
    labels(tmp_path / "two" / "masks")
    labels(tmp_path / "two" / "labels")
    assert "labels, masks could each hold the label maps" in refusal(tmp_path / "two")


def test_folders_that_are_pairs_by_their_names_are_no_classes(tmp_path: Path) -> None:
    for name in ("ISIC-2017_Training_Data", "ISIC-2017_Training_GroundTruth"):
        fill(tmp_path / "isic" / name)
    assert "look like pictures and label maps" in refusal(tmp_path / "isic")
    for name in ("A", "B"):
        fill(tmp_path / "pix2pix" / name)
    assert "Call them trainA and trainB" in refusal(tmp_path / "pix2pix")
    assert find(tmp_path / "pix2pix", "classes").class_names == ("A", "B")
    for name in ("with_mask", "without_mask"):
        fill(tmp_path / "faces" / name)
    assert find(tmp_path / "faces").class_names == ("with_mask", "without_mask")
    fill(tmp_path / "carvana" / "train", ending=".jpg")
    labels(tmp_path / "carvana" / "train_masks", ending="_mask.gif")
    assert find(tmp_path / "carvana").layout == "labelled"


def test_a_picture_beside_class_folders_is_taken_and_said(tmp_path: Path) -> None:
    for name in ("cat", "dog", "."):
        fill(tmp_path / name)
    on_disk = find(tmp_path)
    assert (on_disk.layout, counts(on_disk)) == ("pictures", {"train": 9})
    assert "beside the folders cat, dog: all are taken, and folders are no classes" in on_disk.remarks[0]


def test_composed_and_decomposed_names_pair(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "h\u00e4user\u00e9") for form in ("NFC", "NFD"))
    assert composed != decomposed
    fill(tmp_path / "images", prefix=composed)
    labels(tmp_path / "labels", prefix=decomposed)
    (tmp_path / "train.txt").write_text(f"{decomposed}0\n{composed}1.png\n")
    assert counts(find(tmp_path)) == {"train": 2}


# ---- links and names ---------------------------------------------------------------------------------------


def test_links_to_files_and_folders_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    far = fill(tmp_path / "far")
    root = fill(tmp_path / "data" / "a").parent
    (root / "b").symlink_to(far)
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "more.png").symlink_to(far / "0.png")
    (far / "here").symlink_to(far)
    on_disk = find(root)
    assert on_disk.class_names == ("a", "b") and counts(on_disk) == {"train": 7}
    assert on_disk.left_out == "2 links back to a folder above (a/up, b/here)"


def test_a_dangling_link_a_folder_like_a_picture_and_a_name_of_another_charset_are_named(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "a")
    (tmp_path / "a" / "more").symlink_to(tmp_path / "nowhere")
    assert "more: this link leads nowhere" in refusal(tmp_path / "a")
    fill(fill(tmp_path / "b") / "c.JPG")
    assert "c.JPG: this is a folder, named like a picture" in refusal(tmp_path / "b")
    fill(tmp_path / "c")
    (tmp_path / "c" / "0.png").rename(tmp_path / "c" / "\udce9.png")
    assert "\\xe9.png: this name is not UTF-8" in refusal(tmp_path / "c")


def test_one_folder_in_a_folder_is_no_class(tmp_path: Path) -> None:
    fill(tmp_path / "celeba" / "img_align_celeba", 12)
    on_disk = find(tmp_path / "celeba")
    assert (on_disk.layout, on_disk.class_names, counts(on_disk)) == ("pictures", (), {"train": 12})
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": [[f"celeba/img_align_celeba/{index}.png", 0] for index in range(12)]})
    )
    info = read_info(prepare(_config(tmp_path), tmp_path.parent / "cache"))
    assert "All pictures are of one class, class_0" in info.remarks[0]
