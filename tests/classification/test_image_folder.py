"""ImageNet-style folders, unpacked or in a zip."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from featherseg.classification.folder import ImageFolder
from featherseg.errors import FeathersegError


def picture(seed: int, name: str = "x.png") -> bytes:
    image = np.random.default_rng(seed).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    return cv2.imencode(Path(name).suffix, image)[1].tobytes()


FILES = ["cat/images/a.png", "cat/b.JPG", "dog/c.png", "ant/d.jpeg", "ant/notes.txt", "loose.png"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for number, name in enumerate(FILES):
            path = tmp_path / "things" / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(number, name) if path.suffix != ".txt" else b"words")
    return tmp_path / "things"


def zipped(root: Path, target: Path, prefix: str) -> Path:
    """The same splits as archives; ``prefix`` says whether they hold the split's folder or its content."""
    target.mkdir()
    for split in ("train", "val"):
        with zipfile.ZipFile(target / f"{split}.zip", "w") as archive:
            for path in sorted((root / split).rglob("*"), reverse=True):
                if path.is_file():
                    archive.write(path, prefix.format(split=split) + path.relative_to(root / split).as_posix())
            archive.writestr("__MACOSX/train/cat/._b.JPG", b"shadow")
    return target


def test_classes_are_the_sorted_folders_and_entries_sorted_images(root: Path) -> None:
    folder = ImageFolder(root, "train")
    assert folder.classes == ("ant", "cat", "dog")
    assert [folder.key(i) for i in range(len(folder))] == ["ant/d.jpeg", "cat/b.JPG", "cat/images/a.png", "dog/c.png"]
    assert [folder.read(i)[1] for i in range(4)] == [0, 1, 1, 2]
    assert folder.name == "things"


@pytest.mark.parametrize("prefix", ["", "{split}/"], ids=["content", "with the split's folder"])
def test_a_zip_gives_what_its_unpacked_folder_gives(prefix: str, root: Path, tmp_path: Path) -> None:
    plain, packed = ImageFolder(root, "val"), ImageFolder(zipped(root, tmp_path / "zips", prefix), "val")
    assert packed.entries == plain.entries
    assert packed.classes == plain.classes
    for index in range(len(plain)):
        (one, number), (other, again) = plain.read(index), packed.read(index)
        assert (one.dtype, one.shape) == (np.uint8, (9, 11, 3))
        assert np.array_equal(one, other)
        assert number == again


def test_processes_do_not_share_an_archives_handle(root: Path, tmp_path: Path) -> None:
    packed = ImageFolder(zipped(root, tmp_path / "zips", ""), "train")
    packed.read(0)
    before = packed._archive
    child = os.fork()
    if child == 0:
        packed.read(1)
        os._exit(0 if packed._archive is not before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    packed.read(2)
    assert packed._archive is before


@pytest.mark.parametrize("packed", [False, True])
def test_the_fingerprint_follows_names_and_contents(packed: bool, root: Path, tmp_path: Path) -> None:
    def fingerprint(name: str) -> str:
        return ImageFolder(zipped(root, tmp_path / name, "") if packed else root, "train").fingerprint()

    first = fingerprint("one")
    assert fingerprint("two") == first
    (root / "train/dog/c.png").write_bytes(picture(50) + b"!")
    second = fingerprint("three")
    (root / "train/dog/c.png").rename(root / "train/dog/e.png")
    assert len({first, second, fingerprint("four")}) == 3


def test_a_missing_split_names_what_there_is(root: Path) -> None:
    with pytest.raises(FeathersegError, match=r"no split 'vall'; did you mean 'val'.*there are: train, val"):
        ImageFolder(root, "vall")


def test_an_empty_split_says_how_it_should_look(root: Path) -> None:
    (root / "test").mkdir()
    with pytest.raises(FeathersegError, match="no images in class folders"):
        ImageFolder(root, "test")


def test_a_class_that_train_lacks_is_named(root: Path) -> None:
    (root / "val/emu").mkdir()
    (root / "val/emu/x.png").write_bytes(picture(1))
    folder = ImageFolder(root, "val")
    with pytest.raises(FeathersegError, match="class 'emu' does not occur in train"):
        folder.read(len(folder) - 1)


def test_a_file_that_is_no_zip_is_named(root: Path, tmp_path: Path) -> None:
    target = zipped(root, tmp_path / "zips", "")
    (target / "val.zip").write_bytes(b"PK no zip")
    with pytest.raises(FeathersegError, match=r"val\.zip: not a readable zip"):
        ImageFolder(target, "val")


def test_a_damaged_member_of_a_zip_is_named(root: Path, tmp_path: Path) -> None:
    place = zipped(root, tmp_path / "zips", "") / "train.zip"
    with zipfile.ZipFile(place) as archive:
        start = archive.getinfo("dog/c.png").header_offset + 60
    content = bytearray(place.read_bytes())
    content[start : start + 20] = b"?" * 20
    place.write_bytes(bytes(content))
    folder = ImageFolder(place.parent, "train")
    assert folder.read(0)[1] == 0
    with pytest.raises(FeathersegError, match=r"train\.zip/dog/c\.png: cannot be read out of the archive"):
        folder.read(3)


@pytest.mark.parametrize("packed", [False, True])
def test_a_spoilt_image_is_named(packed: bool, root: Path, tmp_path: Path) -> None:
    (root / "train/dog/c.png").write_bytes(picture(3)[:60])
    folder = ImageFolder(zipped(root, tmp_path / "zips", "") if packed else root, "train")
    with pytest.raises(FeathersegError, match=r"dog/c\.png"):
        folder.read(3)


@pytest.mark.shared
def test_tiny_imagenet_is_read_as_it_lies(shared_data: Path) -> None:
    train, val = (ImageFolder(shared_data / "tiny-imagenet-200-sub", split) for split in ("train", "val"))
    assert train.classes == val.classes
    assert len(train.classes) == 200
    for folder in (train, val):
        image, number = folder.read(len(folder) - 1)
        assert (image.shape, image.dtype, number) == ((64, 64, 3), np.uint8, 199)


def test_imagenets_own_suffix_and_file_names_are_read(tmp_path: Path) -> None:
    """train/n01440764/n01440764_10026.JPEG, val/n01440764/ILSVRC2012_val_00000293.JPEG."""
    for name in ("train/n01440764/n01440764_10026.JPEG", "val/n01440764/ILSVRC2012_val_00000293.JPEG"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(picture(1, "x.jpg"))
    for split in ("train", "val"):
        folder = ImageFolder(tmp_path, split)
        assert folder.classes == ("n01440764",)
        assert folder.read(0)[0].shape == (9, 11, 3)


def test_imagenets_odd_files_are_read(root: Path) -> None:
    """It holds a PNG that is called JPEG, and JPEGs in four inks instead of three colours."""
    (root / "train/dog/c.png").unlink()
    (root / "train/dog/a.JPEG").write_bytes(picture(3, "x.png"))
    Image.new("CMYK", (11, 9), (0, 255, 255, 0)).save(root / "train/dog/b.JPEG", "JPEG")
    folder = ImageFolder(root, "train")
    odd, inks = folder.read(3)[0], folder.read(4)[0]
    assert np.array_equal(odd, cv2.imdecode(np.frombuffer(picture(3), np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
    assert inks.shape == (9, 11, 3)
    assert (inks[..., 0] > 200).all()
    assert (inks[..., 1:] < 60).all()


def test_class_folders_may_be_links_and_hidden_files_are_left_out(root: Path, tmp_path: Path) -> None:
    (root / "train/dog").rename(tmp_path / "elsewhere")
    (root / "train/dog").symlink_to(tmp_path / "elsewhere")
    (root / "train/cat/._b.JPG").write_bytes(b"shadow")
    assert [path for _, path in ImageFolder(root, "train").entries] == [
        "ant/d.jpeg", "cat/b.JPG", "cat/images/a.png", "dog/c.png",
    ]  # fmt: skip


def make_flat(root: Path) -> list[str]:
    """ImageNet's validation images as they are distributed; returns the class of each by the table's lines."""
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    classes = ["dog", "ant", "dog", "cat"]
    lines = ["ImageId,PredictionString"]
    for number, name in enumerate(classes):
        (root / f"val/ILSVRC2012_val_{number:08d}.JPEG").write_bytes(picture(number, "x.jpg"))
        lines.append(f"ILSVRC2012_val_{number:08d},{name} 85 1 499 272 {name} 1 2 3 4 ")
    (root / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    return classes


def test_a_flat_validation_folder_says_how_to_sort_it(root: Path) -> None:
    make_flat(root)
    with pytest.raises(FeathersegError, match=r"its 4 images lie in no class folders.*named as in train/"):
        ImageFolder(root, "val")


def test_the_command_that_is_given_sorts_a_flat_validation_folder(root: Path) -> None:
    classes = make_flat(root)
    with pytest.raises(FeathersegError) as caught:
        ImageFolder(root, "val")
    subprocess.run(["bash", "-c", str(caught.value).split("are sorted by: ")[1]], cwd=root, check=True)
    folder = ImageFolder(root, "val")
    found = {int(folder.key(index)[-13:-5]): folder.entries[index][0] for index in range(len(folder))}
    assert [found[number] for number in range(4)] == classes


def make_tiny_imagenet(root: Path) -> Path:
    """Tiny-ImageNet's own layout: val/images and a table of classes."""
    shutil.rmtree(root / "val")
    (root / "val/images").mkdir(parents=True)
    rows = []
    for number, name in enumerate(["dog", "cat", "ant"]):
        (root / f"val/images/val_{number}.JPEG").write_bytes(picture(number, "x.jpg"))
        rows.append(f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n")
    (root / "val/val_annotations.txt").write_text("".join(rows))
    return root


@pytest.mark.parametrize("packed", [None, "", "{split}/"])
def test_tiny_imagenets_own_validation_split_is_read_by_its_table(
    packed: str | None, root: Path, tmp_path: Path
) -> None:
    place = make_tiny_imagenet(root)
    folder = ImageFolder(place if packed is None else zipped(place, tmp_path / "zips", packed), "val")
    assert folder.entries == [("ant", "images/val_2.JPEG"), ("cat", "images/val_1.JPEG"), ("dog", "images/val_0.JPEG")]
    assert [folder.read(index)[1] for index in range(3)] == [0, 1, 2]


def test_a_table_that_is_none_is_named(root: Path) -> None:
    (make_tiny_imagenet(root) / "val/val_annotations.txt").write_text("val_0.JPEG dog\n")
    with pytest.raises(FeathersegError, match=r"val_annotations\.txt: not a table"):
        ImageFolder(root, "val")


def test_an_image_that_the_table_does_not_list_is_named(root: Path) -> None:
    (make_tiny_imagenet(root) / "val/images/val_9.JPEG").write_bytes(picture(9, "x.jpg"))
    with pytest.raises(FeathersegError, match=r"does not list 1 of the images beside it \(images/val_9\.JPEG\)"):
        ImageFolder(root, "val")
