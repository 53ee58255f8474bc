"""Sequences of stages: read as strictly as a single recipe, and overridden stage by stage."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from featherseg.errors import FeathersegError
from featherseg.recipes.reading import parse_recipe, read_experiment, read_recipe
from featherseg.recipes.schema import Model, Recipe, StagedRecipe
from featherseg.training.stages import check_networks, plan_stages, stage_recipe

SEQUENCE = """
name: mine
source: somewhere
model: {name: fassd_net_l2}
stages:
  - name: images
    task: classification
    model: {name: hardnet_petite}
    data: {source: photos}
    augment: {crop: [32, 32]}
    train: {epochs: 2}
  - name: coarse
    carry: backbone
    data: {source: streets}
    augment: {crop: [64, 96]}
    train: {steps: 9}
  - name: fine
    carry: all_but_logits
    source: elsewhere
    data: {source: streets}
    augment: {crop: [64, 96]}
    train: {steps: 9}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SEQUENCE)
    return path


def read(path: Path, *overrides: str) -> StagedRecipe:
    experiment = read_experiment(path, overrides)
    assert isinstance(experiment, StagedRecipe)
    return experiment


def test_stages_come_in_order_with_the_shared_model_where_they_have_none(mine: Path) -> None:
    staged = read(mine)
    assert [stage.name for stage in staged.stages] == ["images", "coarse", "fine"]
    assert [stage.model.name for stage in staged.stages] == ["hardnet_petite", "fassd_net_l2", "fassd_net_l2"]
    assert [stage.carry for stage in staged.stages] == [None, "backbone", "all_but_logits"]
    assert [stage.source for stage in staged.stages] == ["somewhere", "somewhere", "elsewhere"]


def test_a_file_without_stages_is_one_recipe_and_one_with_them_is_none(mine: Path) -> None:
    assert isinstance(read_experiment("own_data", ["data.source=x"]), Recipe)
    with pytest.raises(FeathersegError, match=r"mine\.yaml: a sequence of 3 stages, where one training is wanted"):
        read_recipe(mine)


def test_what_was_read_can_be_written_and_read_again(mine: Path, tmp_path: Path) -> None:
    staged = read(mine, "stages.fine.train.steps=3")
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(staged.model_dump(mode="json"), sort_keys=False))
    assert read(again) == staged


def test_an_override_of_a_stage_changes_that_stage_alone(mine: Path) -> None:
    staged = read(mine, "stages.fine.train.steps=3", "stages.images.train.steps=5", "stages.fine.carry=everything")
    assert [(stage.train.epochs, stage.train.steps) for stage in staged.stages] == [(None, 5), (None, 9), (None, 3)]
    assert staged.stages[2].carry == "everything"


def test_an_override_that_names_no_stage_changes_all_of_them(mine: Path) -> None:
    staged = read(mine, "train.workers=4", "stages.fine.train.workers=2", "name=other")
    assert [stage.train.workers for stage in staged.stages] == [4, 4, 2]
    assert staged.name == "other"


def test_an_override_of_the_model_changes_the_shared_one(mine: Path) -> None:
    staged = read(mine, "model.name=fassd_net")
    assert [stage.model.name for stage in staged.stages] == ["hardnet_petite", "fassd_net", "fassd_net"]


def test_an_override_of_a_section_that_stages_share_by_an_alias_changes_its_stage_alone() -> None:
    """The crop of three stages of the shipped recipe is one mapping, named and repeated."""
    staged = read_experiment("mobile_four_stages", ["stages.coarse.augment.crop=[65,65]"])
    assert isinstance(staged, StagedRecipe)
    assert [stage.augment.crop[0] for stage in staged.stages] == [224, 769, 65, 769]


def test_an_override_of_the_shared_model_is_refused_where_every_stage_has_its_own(mine: Path, tmp_path: Path) -> None:
    """As in the recipe that a run keeps, where every field is spelt out."""
    kept = tmp_path / "kept.yaml"
    kept.write_text(yaml.safe_dump(read(mine).model_dump(mode="json")))
    message = r"^model\.name=drbanet: changes no stage.*stages\.STAGE\.model\.name=drbanet; .* images, coarse, fine\.$"
    with pytest.raises(FeathersegError, match=message):
        read(kept, "model.name=drbanet")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.fien.train.steps=3", r"did you mean 'fine'.*the stages are images, coarse, fine\."),
        ("stages.2.train.steps=3", r"names no field of a stage.*stages\.images\.train\.steps=100"),
        ("stages.fine=3", "names no field of a stage"),
        ("stages=3", "names no field of a stage"),
        ("stages.fine.train.step=3", r"stage fine: unknown key 'train\.step'; did you mean 'steps'"),
        ("stages.fine.crop=3", r"stage fine: unknown key 'crop'; did you mean 'augment\.crop'"),
        ("stages.fine.train.steps=many", r"stage fine: train\.steps: give a whole number, not 'many'"),
        ("stages.fine.carry=head", r"stage fine: carry: .*'everything', 'all_but_logits' or 'backbone', not 'head'"),
        ("stages.fine.augment.scale=[2.0,1.0]", r"stage fine: augment\.scale=\[2\.0, 1\.0\] falls"),
        ("stages.fine.model=fassd_net", r"stage fine: model: a section .*write model\.name=fassd_net"),
        ("train.steps=many", r"^train\.steps=many: train\.steps: give a whole number, not 'many'\.$"),
        ("train.stepps=3", r"^train\.stepps=3: unknown key 'train\.stepps'; did you mean 'steps' [^;]*\.$"),
        ("stage=3", "unknown key 'stage'; did you mean 'stages'"),
        ("start.encoder=x", r"^start\.encoder=x: 'start' is a stage's, .*; write stages\.STAGE\.start\.$"),
        ("carry=backbone", r"^carry=backbone: 'carry' is a stage's, not the sequence's; write stages\.STAGE\.carry\.$"),
        ("stages.images.carry=backbone", r"is the first.*; leave stages\.images\.carry out and use its start"),
        ("stages.fine.start.weights=x", r"starts from coarse by its carry; leave stages\.fine\.start\.weights out"),
        ("stages.images.loss.kind=ohem", r"stage images: loss\.kind: a classification has the plain cross-entropy"),
    ],
)
def test_a_wrong_override_is_refused_with_its_stage_and_place(mine: Path, override: str, message: str) -> None:
    with pytest.raises(FeathersegError, match=message) as caught:
        read(mine, override)
    assert override.partition("=")[0] in str(caught.value).split(": ")[0]
    assert "\n" not in str(caught.value)


def changed(number: int, **fields: Any) -> dict[str, Any]:
    """The sequence with fields of a stage put in, or taken out where they are None."""
    values = yaml.safe_load(SEQUENCE)
    values["stages"][number] |= fields
    values["stages"][number] = {key: value for key, value in values["stages"][number].items() if value is not None}
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (changed(1, carry=None), r"stage coarse: say what it takes over from images: carry: everything, all_but_log"),
        (changed(0, carry="backbone"), "stage images: is the first, with no stage before it to carry from"),
        (
            changed(1, start={"encoder": "x"}),
            r"coarse: starts from images .*; leave stages\.coarse\.start\.encoder out",
        ),
        (changed(2, name="coarse"), "two stages are called 'coarse'"),
        (changed(2, name="fi.ne"), r"stage fi\.ne: the stage's name 'fi\.ne' has a dot"),
        (changed(2, name=None), "stage 3: 'name' is missing"),
        (
            changed(2, train={"epochs": 1, "steps": 1}),
            r"stage fine: give exactly one of train\.epochs and train\.steps",
        ),
        (changed(2, trian={}), "stage fine: unknown key 'trian'; did you mean 'train'"),
        ({"name": "mine", "stages": []}, "stages: give a list of stages"),
        ({"name": "mine", "stages": 3}, "stages: give a list of stages"),
        ({"name": "mine", "stages": ["coarse"]}, "stage 1: "),
        ({"name": "mine", "stages": {"coarse": {}}}, "stages: give a list of stages"),
    ],
)
def test_a_faulty_sequence_is_refused_by_file_and_stage(values: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(FeathersegError, match=message) as caught:
        read_experiment(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_stage_alone_is_a_recipe_that_starts_from_the_run_before(mine: Path) -> None:
    first, second, _ = read(mine).stages
    alone = stage_recipe(first, None)
    assert (alone.name, alone.model, alone.start.weights) == ("images", Model(name="hardnet_petite"), None)
    started = stage_recipe(second, Path("runs/mine/images"))
    assert (started.start.weights, started.start.carry) == ("runs/mine/images/weights.safetensors", "backbone")
    assert parse_recipe(started.model_dump(mode="json"), "kept") == started


def test_the_mobile_papers_four_stages_are_as_printed() -> None:
    """Türkmen and Heikkilä 2019, Sec. 3.2, and the parameters of the spec's network."""
    staged = read_experiment("mobile_four_stages")
    assert isinstance(staged, StagedRecipe)
    images, *trained = staged.stages
    assert (images.task, images.name) == ("classification", "imagenet")
    assert [(s.name, s.train.steps, s.optimizer.lr) for s in trained] == [
        ("coco", 60_000, 1e-3),
        ("coarse", 60_000, 1e-3),
        ("fine", 120_000, 1e-4),
    ]
    assert {(s.optimizer.kind, s.optimizer.betas, s.optimizer.weight_decay, s.schedule.power) for s in trained} == {
        ("adam", (0.9, 0.999), 4e-5, 0.9)
    }
    assert {(s.train.batch_size, s.augment.crop, s.augment.scale, s.augment.scale_step) for s in trained} == {
        (16, (769, 769), (0.5, 2.0), 0.25)
    }
    assert [s.schedule.slow_start for s in trained] == [0, 0, 186]
    assert trained[2].optimizer.lr * trained[2].schedule.slow_start_factor == pytest.approx(1e-5)
    assert [s.carry for s in trained] == ["backbone", "all_but_logits", "everything"]
    assert {s.optimizer.decay for s in trained} == {"kernels_but_depthwise"}
    assert {(s.augment.padding, s.augment.padding_value, s.augment.flip, s.augment.flip_last) for s in trained} == {
        ("bottom_right", 128, 0.5, True)
    }
    assert {(s.loss.kind, s.loss.class_weights, s.train.ema, s.train.freeze_bn) for s in trained} == {
        ("cross_entropy", None, 0.0, False)
    }


def test_what_the_mobile_papers_stages_carry_over_fits_their_networks() -> None:
    staged = read_experiment("mobile_four_stages")
    assert isinstance(staged, StagedRecipe)
    check_networks(plan_stages(staged, Path("nowhere"), last="card.json", resume=False))
