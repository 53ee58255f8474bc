"""Teacher, tutor, student by the command line on street scenes: stopped in every place, and what is refused before."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_students import AFFINITY, STUDENT, TUTOR, save, student_recipe

from featherseg.cards import read_card
from featherseg.cli.main import main
from featherseg.deploy.segmenter import load
from featherseg.models.weights import read_metadata, read_weights
from featherseg.training import loop
from featherseg.training.log import read_log

TRAIN = {"steps": 2, "batch_size": 2, "precision": "fp32", "workers": 0, "device": "cpu", "log_every": 1}
PAIRS = [{"student": "1/8", "teacher": "1/4"}, {"student": "1/16", "teacher": "1/16", "weight": 0.8}]


@pytest.fixture(scope="module", autouse=True)
def without_reports():
    """The page of a run has tests of its own, and drawing it takes longer than these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featherseg.cli.train.write_run_report", lambda folder: folder)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("three")


@pytest.fixture(scope="module")
def teacher(root: Path) -> Path:
    return save(root / "teacher.safetensors", TUTOR, 5)


@pytest.fixture(scope="module")
def recipe(root: Path) -> Path:
    one = student_recipe().model_dump(mode="json")
    shared: dict[str, Any] = {key: one[key] for key in ("data", "augment", "optimizer", "schedule")} | {"train": TRAIN}
    later = {"distillation": {}}
    stages = [
        shared | later | {"name": "baseline", "model": STUDENT},
        shared | later | {"name": "tutor", "model": TUTOR, "carry": "backbone"},
        shared
        | {"name": "student", "model": STUDENT, "carry": "everything", "carry_from": "baseline", "taught_by": "tutor"}
        | {"distillation": {"affinity": AFFINITY | {"pairs": PAIRS}}, "train": TRAIN | {"steps": 3}},
    ]
    path = root / "three.yaml"
    path.write_text(yaml.safe_dump({"name": "three", "stages": stages}))
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    assert main(["distill", str(recipe), "--teacher", str(teacher), "--output", str(output)]) == 0
    return output / "three"


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_log(folder) if "loss" in entry]


def test_each_stage_is_taught_by_whom_it_should_be(run, teacher):
    taught = {
        name: read_metadata(run / name / "weights.safetensors")["taught_by"]
        for name in ("baseline", "tutor", "student")
    }
    assert taught["baseline"] == taught["tutor"]
    assert taught["tutor"]["file"] == f"{teacher.parent.name}/{teacher.name}"
    assert taught["student"]["file"] == "tutor/weights.safetensors"
    card = read_card(run / "card.json")
    assert [(one["carry_from"], one["taught_by"]) for one in card["stages"]] == [
        (None, None),
        ("baseline", None),
        ("baseline", "tutor"),
    ]


def test_the_tutor_starts_from_the_baseline_and_the_student_from_it_too(run):
    recipes = {name: yaml.safe_load((run / name / "recipe.yaml").read_text()) for name in ("tutor", "student")}
    for one, carry in (("tutor", "backbone"), ("student", "everything")):
        assert recipes[one]["start"] == {
            "encoder": None,
            "weights": str(run / "baseline" / "weights.safetensors"),
            "carry": carry,
        }
    assert recipes["student"]["distillation"]["teacher"] == str(run / "tutor" / "weights.safetensors")


def test_what_it_leaves_is_a_student_without_the_virtual_path(run):
    segmenter = load(run / "weights.safetensors")
    assert set(read_weights(run / "weights.safetensors").tensors) == set(segmenter.network.state_dict())
    assert not any("4" in name.split(".")[0] for name in segmenter.network.state_dict())
    assert segmenter.logits(torch.zeros(1, 3, 32, 64)).shape == (1, 11, 32, 64)


@pytest.mark.parametrize(("stage", "step"), [("tutor", 1), ("student", 2)])
def test_a_run_stopped_in_any_stage_goes_on_there_to_the_same_losses(
    stage, step, run, recipe, teacher, tmp_path, monkeypatch, capsys
):
    seen: list[int] = []
    rate = loop.learning_rate_factor

    def stopping(schedule: Any, now: int, steps: int) -> float:
        seen.append(now)
        if len(seen) == {"tutor": 2, "student": 4}[stage] + step:
            os.kill(os.getpid(), signal.SIGINT)
        return rate(schedule, now, steps)

    monkeypatch.setattr(loop, "learning_rate_factor", stopping)
    given = ["distill", str(recipe), "--teacher", str(teacher), "--output", str(tmp_path)]
    assert main(given) == 130
    monkeypatch.setattr(loop, "learning_rate_factor", rate)
    capsys.readouterr()
    assert main(["distill", str(tmp_path / "three" / "recipe.yaml"), "--resume", "--output", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    names = ["baseline", "tutor", "student"]
    for name in names[: names.index(stage)]:
        assert re.search(rf"{name}: finished", told)
    for name in names:
        assert losses(tmp_path / "three" / name) == losses(run / name)


def test_one_step_with_any_recipe_of_a_segmentation(recipe, teacher, tmp_path, capsys):
    plain = student_recipe(distillation=None).model_dump(mode="json")
    plain["train"] = TRAIN | {"steps": 1}
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(plain))
    assert main(["distill", str(path), "--teacher", str(teacher), "--output", str(tmp_path)]) == 0
    assert "/teacher.safetensors (FasterSegTutor)" in capsys.readouterr().err
    made = tmp_path / "student" / "weights.safetensors"
    assert read_metadata(made)["recipe"]["distillation"]["kl"]["weight"] == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "stage 1 of 3: baseline: has no teacher yet.*--teacher NAME_OR_FILE"),
        (["--teacher", "drbanet"], "stage 1 of 3: baseline: distillation.teacher=drbanet: is a network"),
        (["--teacher", "THREE"], "stage 1 of 3: baseline: .*knows 3 classes and the data has 11"),
        (
            ["stages.tutor.model=STUDENT", "stages.tutor.carry=everything", "--teacher", "TEACHER"],
            "stage 3 of 3: student: the teacher .FasterSeg. has no path '1/4'.*fasterseg_tutor",
        ),
        (
            ["stages.student.distillation.affinity.pairs=[{student: 1/6, teacher: 1/4}]", "--teacher", "TEACHER"],
            "stage 3 of 3: student: the student .FasterSeg. has no path '1/6'; did you mean '1/16'",
        ),
        (["stages.student.taught_by=tudor", "--teacher", "TEACHER"], "taught_by=tudor names no stage before it"),
    ],
)
def test_a_late_stages_mistake_is_told_before_the_first_step(
    given: list[str], message, recipe, teacher, root, tmp_path, capsys
):
    three = root / "classes.safetensors"
    if not three.exists():
        save(three, TUTOR, num_classes=3, count=3, classes=["a", "b", "c"])
    student = str(yaml.safe_dump(STUDENT, default_flow_style=True, width=10_000)).strip()
    words = {
        "TEACHER": str(teacher),
        "THREE": str(three),
        "stages.tutor.model=STUDENT": f"stages.tutor.model={student}",
    }
    arguments = [words.get(one, one) for one in given]
    assert main(["distill", str(recipe), *arguments, "--output", str(tmp_path)]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "three").exists()


def test_a_recipe_that_teaches_nobody_is_refused(tmp_path, capsys):
    plain = student_recipe(distillation=None).model_dump(mode="json")
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(plain))
    assert main(["distill", str(path), "--output", str(tmp_path)]) == 2
    assert "has no teacher. Give --teacher" in capsys.readouterr().err
    staged = {"name": "staged", "stages": [plain]}
    path.write_text(yaml.safe_dump(staged))
    assert main(["distill", str(path), "--teacher", "x", "--output", str(tmp_path)]) == 2
    assert "no stage has a section distillation" in capsys.readouterr().err


def test_a_teacher_that_would_teach_no_stage_is_refused(recipe, tmp_path, capsys):
    content = yaml.safe_load(recipe.read_text())
    del content["stages"][0]["distillation"]
    content["stages"][1]["taught_by"] = "baseline"
    path = tmp_path / "taught.yaml"
    path.write_text(yaml.safe_dump(content))
    assert main(["distill", str(path), "--teacher", "absent", "--output", str(tmp_path)]) == 2
    assert "every stage is taught by another one, and --teacher teaches none" in capsys.readouterr().err


def test_a_stage_whose_teacher_was_taken_away_is_refused(run, recipe, teacher, capsys):
    card = run / "tutor" / "card.json"
    card.rename(run / "away.json")
    given = ["distill", str(recipe), "--teacher", str(teacher), "--resume", "--output", str(run.parent)]
    try:
        assert main(given) == 2
    finally:
        (run / "away.json").rename(card)
    assert "student: was begun, but tutor, which teaches it, is not finished" in capsys.readouterr().err


def test_a_finished_run_that_is_resumed_does_nothing(run, recipe, teacher, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("weights.safetensors") if path.parent != run}
    given = ["distill", str(recipe), "--teacher", str(teacher), "--resume", "--output", str(run.parent)]
    assert main(given) == 0
    assert capsys.readouterr().err.count("finished") == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
