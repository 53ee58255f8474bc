"""Many images: what is found, what the results are called, what happens to spoilt ones, and the memory it takes."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from colour_network import colour_segmenter
from PIL import Image

from featherseg.deploy.files import find_images, predict_files
from featherseg.errors import FeathersegError


def picture(path: Path, size: tuple[int, int] = (12, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 30, np.uint8)).save(path)
    return path


def stems(arguments, output) -> list[str]:
    problems: list[str] = []
    found = [image.stem for image in find_images(arguments, output, problems.append)]
    assert not problems
    return found


def results(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_keeps_its_structure(tmp_path):
    for name in ("a.png", "left/a.png", "right/a.jpg", "right/deep/b.bmp", "notes.txt", ".hidden.png"):
        picture(tmp_path / "in" / name) if not name.endswith("txt") else (tmp_path / "in" / name).write_text("x")
    assert stems([tmp_path / "in"], tmp_path / "out") == ["a", "left/a", "right/a", "right/deep/b"]


def test_names_that_would_collide_are_told_apart(tmp_path):
    for name in ("one/a.png", "two/a.png", "two/A.jpg", "two/a_overlay.png"):
        picture(tmp_path / name)
    found = stems(
        [tmp_path / "one/a.png", tmp_path / "two/A.jpg", tmp_path / "two/a.png", tmp_path / "two/a_overlay.png"],
        tmp_path / "out",
    )
    assert len(found) == 4
    written = [f"{stem}{end}".casefold() for stem in found for end in (".png", "_overlay.png", ".json")]
    assert len(set(written)) == len(written)
    assert found[0] == "a"


def test_globs_reach_into_folders_and_keep_what_is_below_their_fixed_part(tmp_path):
    for name in ("x/1/a.png", "x/2/a.png", "x/2/b.txt"):
        picture(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("x")
    assert sorted(stems([f"{tmp_path}/x/*/*"], tmp_path / "out")) == ["1/a", "2/a"]
    assert sorted(stems([f"{tmp_path}/x/**/*.png"], tmp_path / "out")) == ["1/a", "2/a"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    picture(tmp_path / "in/shot[1].png")
    assert stems([tmp_path / "in/shot[1].png"], tmp_path / "out") == ["shot[1]"]


def test_results_of_an_earlier_run_are_no_input(tmp_path):
    picture(tmp_path / "in/a.png")
    picture(tmp_path / "in/out/a_overlay.png")
    assert stems([tmp_path / "in"], tmp_path / "in/out") == ["a"]
    assert stems([f"{tmp_path}/in/**/*.png"], tmp_path / "in/out") == ["a"]


@pytest.mark.parametrize("argument", ["in", "in/a.png"])
def test_label_maps_are_never_written_among_the_images(tmp_path, argument):
    original = picture(tmp_path / "in/a.png").read_bytes()
    with pytest.raises(FeathersegError, match="overwrite"):
        predict_files(colour_segmenter(), [tmp_path / argument], tmp_path / "in", problem=print)
    assert (tmp_path / "in/a.png").read_bytes() == original
    assert results(tmp_path) == {"in/a.png"}


def test_a_file_that_no_prediction_wrote_is_never_overwritten(tmp_path):
    kept = picture(tmp_path / "photos/a.png").read_bytes()
    picture(tmp_path / "photos/sub/a.png")
    picture(tmp_path / "photos/sub/b.png")
    problems: list[str] = []
    outcome = predict_files(colour_segmenter(), [tmp_path / "photos/sub"], tmp_path / "photos", problem=problems.append)
    assert (outcome.written, outcome.failed) == (1, 1)
    assert (tmp_path / "photos/a.png").read_bytes() == kept
    assert "a.png is in the way" in problems[0]


def test_an_earlier_prediction_is_written_anew(tmp_path):
    picture(tmp_path / "in/a.png")
    for _ in range(2):
        outcome = predict_files(colour_segmenter(), [tmp_path / "in"], tmp_path / "out", problem=print)
        assert (outcome.written, outcome.failed) == (1, 0)


def test_a_spoilt_image_is_reported_and_the_others_are_done(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / "in" / name)
    whole = (tmp_path / "in/b.png").read_bytes()
    (tmp_path / "in/b.png").write_bytes(whole[: len(whole) // 2])
    problems: list[str] = []
    outcome = predict_files(
        colour_segmenter(), [tmp_path / "in", tmp_path / "gone.png"], tmp_path / "out", problem=problems.append
    )
    assert (outcome.written, outcome.failed) == (2, 2)
    assert "b.png" in problems[0]
    assert "gone.png" in problems[1]
    assert all("\n" not in problem for problem in problems)
    assert results(tmp_path / "out") == {f"{stem}{end}" for stem in "ac" for end in (".png", "_overlay.png", ".json")}


def test_an_empty_folder_is_reported(tmp_path):
    (tmp_path / "empty").mkdir()
    problems: list[str] = []
    outcome = predict_files(colour_segmenter(), [tmp_path / "empty"], tmp_path / "out", problem=problems.append)
    assert (outcome.written, outcome.failed) == (0, 1)
    assert "no images" in problems[0]


def test_a_glob_into_the_output_folder_is_told_apart_from_an_empty_one(tmp_path):
    picture(tmp_path / "in/a.png")
    for pattern, word in (("*.png", "lie in the output folder"), ("*.jpg", "no images there")):
        problems: list[str] = []
        assert list(find_images([f"{tmp_path}/in/{pattern}"], tmp_path / "in", problems.append)) == []
        assert word in problems[0]


def test_the_advice_for_a_spoilt_picture_speaks_of_no_data_set(tmp_path):
    whole = picture(tmp_path / "in/a.png").read_bytes()
    (tmp_path / "in/a.png").write_bytes(whole[:-20])
    problems: list[str] = []
    predict_files(
        colour_segmenter(), [tmp_path / "in", tmp_path / "gone.png"], tmp_path / "out", problem=problems.append
    )
    assert len(problems) == 2
    assert all(problem.endswith("Copy it again, or leave it out.") for problem in problems)


def test_links_to_folders_are_not_followed(tmp_path):
    picture(tmp_path / "in/a.png")
    os.symlink(tmp_path / "in", tmp_path / "in/loop")
    assert stems([tmp_path / "in"], tmp_path / "out") == ["a"]


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # not what is measured, and slow
    network = colour_segmenter()
    one = picture(tmp_path / "few/000.png").read_bytes()
    for folder, count in (("few", 40), ("many", 200)):
        (tmp_path / folder).mkdir(exist_ok=True)
        for number in range(count):
            (tmp_path / folder / f"{number:03d}.png").write_bytes(one)

    def peak(folder: str) -> int:
        tracemalloc.start()
        predict_files(network, [tmp_path / folder], tmp_path / "out", overlay=False, problem=print)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak("few")  # what is loaded on the first use is no part of it
    # Two digests of eight bytes each a file stay; one kept 12x16 prediction would take 768 bytes.
    assert peak("many") - peak("few") < 160 * 500
