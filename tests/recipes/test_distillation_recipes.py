"""Recipes with a teacher: what ships is as printed, and what makes no sense is refused with the place."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from featherseg.errors import FeathersegError
from featherseg.recipes.reading import parse_recipe, read_experiment, read_recipe, without_folders
from featherseg.recipes.schema import Recipe, StagedRecipe

PLAIN: dict[str, Any] = {
    "name": "student",
    "model": {"name": "fassd_net_l2"},
    "data": {"source": "streets"},
    "augment": {"crop": [64, 96]},
    "train": {"epochs": 2},
}


def recipe(**distillation: Any) -> Recipe:
    return parse_recipe(PLAIN | {"distillation": distillation}, "student.yaml")


def staged(tmp_path: Path, *changes: dict[str, Any]) -> StagedRecipe:
    """Three stages, the second and third taught; ``changes`` to each."""
    taught: dict[str, Any] = {"distillation": {}, "carry": "everything"}
    stages = [PLAIN | {"name": "base"}, PLAIN | taught | {"name": "tutor"}, PLAIN | taught | {"name": "student"}]
    stages = [stage | change for stage, change in zip(stages, changes, strict=False)]
    path = tmp_path / "staged.yaml"
    path.write_text(yaml.safe_dump({"name": "staged", "stages": stages}))
    found = read_experiment(path)
    assert isinstance(found, StagedRecipe)
    return found


def test_the_papers_recipe_is_as_printed():
    """Yang et al. 2021, Sec. 4.2, high resolution; 1,000 updates an epoch as in FasterSeg's published code."""
    found = read_experiment("fasterseg_distillation")
    assert isinstance(found, StagedRecipe)
    rows = {
        stage.name: (
            stage.train.steps,
            stage.train.batch_size,
            stage.optimizer.lr,
            stage.optimizer.weight_decay,
            stage.augment.crop,
        )
        for stage in found.stages
    }
    assert rows == {
        "baseline": (500_000, 10, 0.012, 0.001, (512, 1024)),
        "tutor": (400_000, 10, 0.003, 0.001, (512, 1024)),
        "student": (400_000, 10, 0.003, 0.001, (512, 1024)),
    }
    for stage in found.stages:
        assert stage.train.steps is not None
        assert stage.schedule.gamma == pytest.approx(0.99 ** (stage.train.steps / 1000), rel=1e-3)
    assert math.isclose(0.0297, 0.99**350, rel_tol=2e-3)  # the header's override of the low resolution
    student = found.stages[2]
    assert (student.carry_from, student.taught_by) == ("baseline", "tutor")
    assert student.distillation is not None
    affinity = student.distillation.affinity
    assert (affinity.weight, affinity.form, affinity.resize) == (1.0, "exact", "pixels")
    pairs = {(one.student, one.teacher): one.weight for one in affinity.pairs}
    assert pairs == {("1/8", "1/4"): 1.0, ("1/16", "1/16"): 0.8, ("1/32", "1/32"): 0.8}


@pytest.mark.parametrize("name", ["fassd_net_l2", "drbanet"])
def test_a_students_recipe_is_the_one_without_a_teacher_but_for_the_teacher(name):
    """So that the difference of their scores is the teacher's."""
    with_teacher, without = (read_recipe(one).model_dump() for one in (f"camvid_distil_{name}", f"camvid_{name}"))
    assert with_teacher.pop("distillation")["kl"]["weight"] == 1.0
    for values in (with_teacher, without):
        del values["name"]
    assert with_teacher == without | {"distillation": None} or with_teacher | {"distillation": None} == without


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kl": {"weight": 0}}, "distillation: compares nothing"),
        ({"kl": {"temperature": 0}}, r"distillation\.kl\.temperature"),
        ({"affinity": {"form": "pooled", "resize": "raster"}}, r"affinity\.resize has no use with .*form=pooled"),
        ({"affinity": {"grid": [8, 8]}}, r"affinity\.grid has no use with .*form=exact"),
        ({"afinity": {}}, "unknown key 'distillation.afinity'; did you mean 'affinity'"),
        ({"affinity": {"pairs": [{"student": "1/8"}]}}, r"'distillation\.affinity\.pairs\.0\.teacher' is missing"),
        ({"cache": {"epochs": 2}}, r"'distillation\.cache\.folder' is missing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(FeathersegError, match=message):
        recipe(**settings)


def test_a_classification_has_no_teacher():
    with pytest.raises(FeathersegError, match="distillation: is of a segmentation, and this is a classification"):
        parse_recipe(PLAIN | {"task": "classification", "distillation": {}}, "student.yaml")


def test_what_travels_with_weights_has_no_folders():
    found = recipe(teacher="/home/me/runs/tutor/weights.safetensors", cache={"folder": "/home/me/kept"})
    values = without_folders(found)["distillation"]
    assert (values["teacher"], values["cache"]["folder"]) == ("tutor/weights.safetensors", "kept")
    assert without_folders(parse_recipe(PLAIN, "plain"))["distillation"] is None


def test_a_stage_may_start_from_and_be_taught_by_any_before_it(tmp_path):
    found = staged(tmp_path, {}, {"taught_by": "base"}, {"taught_by": "tutor", "carry_from": "base"})
    assert [(one.carry_from, one.taught_by) for one in found.stages] == [
        (None, None),
        (None, "base"),
        ("base", "tutor"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (({}, {}, {"taught_by": "tutro"}), "student: taught_by=tutro names no stage before it.*base, tutor"),
        (({}, {"carry_from": "student"}, {}), "tutor: carry_from=student names no stage before it"),
        (({"taught_by": "base", "distillation": {}},), "base: taught_by=base .*there is none before it"),
        (({}, {"taught_by": "base", "distillation": None}, {}), "tutor: is taught_by base; give it a section"),
        (
            ({}, {"taught_by": "base", "distillation": {"teacher": "x"}}, {}),
            r"leave stages\.tutor\.distillation\.teach",
        ),
    ],
)
def test_references_to_stages_that_cannot_be_are_refused(changes, message, tmp_path):
    with pytest.raises(FeathersegError, match=message):
        staged(tmp_path, *changes)
