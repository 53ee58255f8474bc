"""Recipes: what ships is valid, what is mistyped is named, and overrides do what they say."""

from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from featherseg.errors import FeathersegError
from featherseg.models.carry_differences import computed_otherwise
from featherseg.models.registry import create_model, list_models
from featherseg.models.weights import describe_network
from featherseg.recipes.reading import (
    SHIPPED,
    apply_override,
    parse_recipe,
    read_experiment,
    read_recipe,
    recipe_path,
    shipped_recipes,
    without_folders,
)

SMALLEST = """
name: mine
model: {name: fassd_net_l2}
data: {source: streets}
augment: {crop: [64, 96]}
train: {epochs: 2}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALLEST)
    return path


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_and_names_a_network_of_its_task(name: str) -> None:
    experiment = read_experiment(name, ["data.source=path/to/data"])
    assert experiment.name == name
    for recipe in getattr(experiment, "stages", [experiment]):
        assert recipe.model.name in list_models(recipe.task)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_opens_with_what_it_is_and_its_command(name: str) -> None:
    header = [line for line in (SHIPPED / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    commands = ("featherseg train", "featherseg distill", "featherseg quickstart")
    assert any(command in line for line in header for command in commands)


@pytest.mark.parametrize(
    ("name", "steps", "batch_size", "rate", "crop"),
    [("cityscapes_drbanet", 120_000, 16, 1e-2, (1024, 1024)), ("camvid_drbanet_paper", 20_000, 4, 1e-3, (720, 960))],
)
def test_drbanets_recipes_are_as_printed(name: str, steps: int, batch_size: int, rate: float, crop: tuple) -> None:
    """Wang et al., Sec. 3.1 and Eq. 4; the paper gives no crop for CamVid, whose images are 960x720."""
    recipe = read_recipe(name)
    assert (recipe.train.steps, recipe.train.batch_size, recipe.augment.crop) == (steps, batch_size, crop)
    optimizer, loss = recipe.optimizer, recipe.loss
    assert (optimizer.kind, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ("sgd", rate, 0.9, 5e-4)
    assert (recipe.schedule.kind, recipe.schedule.final, recipe.schedule.warmup) == ("cosine", 0.0, 0)
    assert (loss.kind, loss.boundary, loss.auxiliary_weight, loss.boundary_weight) == (
        "cross_entropy",
        "published",
        0.2,
        0.1,
    )
    assert recipe.start.encoder is recipe.start.weights is None


def test_there_are_shipped_recipes() -> None:
    assert "camvid_fassd_net_l2" in shipped_recipes()


def test_a_file_wins_over_a_shipped_name_and_an_unknown_name_gets_the_nearest(mine: Path) -> None:
    assert recipe_path(mine) == mine
    with pytest.raises(FeathersegError, match=r"did you mean 'camvid_fassd_net_l2'\. Shipped:"):
        recipe_path("camvid_fassdnet_l2")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"unknown key 'train\.epoch'; did you mean 'epochs'"),
        ("trian.epochs=3", r"unknown key 'trian'; did you mean 'train'"),
        ("train.crop=3", r"unknown key 'train\.crop'; did you mean 'augment\.crop'"),
        ("epochs=3", r"unknown key 'epochs'; did you mean 'train\.epochs'"),
        ("train.epochs=many", r"train\.epochs: give a whole number, not 'many'"),
        ("train.drop_last=perhaps", r"train\.drop_last: give true or false, not 'perhaps'"),
        ("optimizer.lr=fast", r"optimizer\.lr: give a number, not 'fast'"),
        ("data.source=3", r"data\.source: give text; put quotes"),
        ("train.epochs=0", r"train\.epochs: .*greater than 0.*not 0"),
        ("train.batch_size=2.5", r"train\.batch_size: .*whole number, not 2\.5"),
        ("augment.crop=64", r"augment\.crop: give two whole numbers.*\[360,480\], not 64"),
        ("augment.crop=[64]", r"augment\.crop: give two whole numbers.*\[360,480\]"),
        ("augment.crop=[64,64,64]", r"augment\.crop: give two whole numbers"),
        ("augment.crop=[64,0]", r"augment\.crop\.1: .*greater than 0"),
        ("augment.scale=[2.0,0.5]", r"augment\.scale=\[2\.0, 0\.5\] falls"),
        ("augment.scale_step=0.4", r"augment\.scale_step=0\.4 does not lead from 0\.5 to 2 in whole steps"),
        ("augment.padding=left", r"augment\.padding: .*'both_sides' or 'bottom_right'"),
        ("augment.padding_value=127.5", r"augment\.padding_value: .*whole number, not 127\.5"),
        ("optimizer.decay=kernel", r"optimizer\.decay: .*'kernels_but_depthwise'"),
        ("start.carry=backbone", r"start\.carry=backbone says what is taken from start\.weights; give those"),
        ("augment.flip=1.5", r"augment\.flip: .*less than or equal to 1"),
        ("augment.mixup=0.2", r"augment\.mixup: is of a classification, and this is a segmentation; leave it out"),
        ("data.drop_classes=[sky]", r"data\.drop_classes: is of a classification, and this is a segmentation"),
        ("data.drop_classes=sky", r"data\.drop_classes: give names of classes, for example \[Faces\], not 'sky'"),
        ("augment.rand_augment=9", r"augment\.rand_augment: give two numbers, how many operations and their magnitude"),
        ("augment.rand_augment=[2,11]", r"augment\.rand_augment\.1: .*less than or equal to 10"),
        ("augment.view=left", r"augment\.view: .*'whole' or 'centre'"),
        ("loss.kind=focal", r"loss\.kind: .*'cross_entropy', 'ohem' or 'bootstrapped'"),
        ("optimizer.betas=[0.9,1.0]", r"optimizer\.betas\.1: .*less than 1"),
        ("train.precision=int8", r"train\.precision: .*'fp32', 'bf16' or 'fp16'"),
        ("train.ema=1.0", r"train\.ema: .*less than 1"),
        ("name=../elsewhere", r"name: give letters, digits, .*, not '\.\./elsewhere'"),
        ("optimizer.lr=.inf", r"optimizer\.lr: .*finite number, not inf"),
        ("train.seed=-1", r"train\.seed: .*greater than or equal to 0, not -1"),
        ("data.seed=4294967296", r"data\.seed: .*less than 4294967296"),
        ("model=fassd_net", r"model: a section .*write model\.name=fassd_net"),
        ("train=3", r"train: a section .*write train\.epochs=\.\.\."),
        ("train.accumulation=9", r"train\.accumulation=9 cuts a batch of 8 into empty parts.*accumulation=8"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(mine: Path, override: str, message: str) -> None:
    with pytest.raises(FeathersegError, match=message) as caught:
        read_recipe(mine, [override])
    assert str(caught.value).startswith(f"{override}: ")
    assert str(mine) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_of_the_file_is_told_by_its_path_beside_those_of_overrides(mine: Path) -> None:
    mine.write_text(SMALLEST.replace("epochs: 2", "epochs: two"))
    with pytest.raises(FeathersegError) as caught:
        read_recipe(mine, ["augment.flip=2", "train.seed=1"])
    told = str(caught.value)
    assert told.startswith("augment.flip=2: augment.flip: ")
    assert f"; {mine}: train.epochs: give a whole number" in told


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.count=3"], r"data\.count: is of a segmentation, and this is a classification"),
        (["augment.padding_value=3"], r"augment\.padding_value: is of a segmentation"),
        (["data.split_file=split.json"], r"data\.split_file decides the split; leave data\.drop_classes out"),
        (["schedule.milestones=[40]", "schedule.run_epochs=40"], r"schedule\.milestones: 40 is never passed"),
    ],
)
def test_a_classification_refuses_what_it_has_no_use_for(overrides: list[str], message: str) -> None:
    with pytest.raises(FeathersegError, match=message):
        read_recipe("caltech101_scratch", overrides)


@pytest.mark.parametrize(("name", "train"), [("caltech101", 7144), ("caltech256", 28607)])
def test_the_pyramid_papers_recipes_are_as_printed(name: str, train: int) -> None:
    """Hoanh 2020, Sec. 3.1: batch 512, 300 epochs, 0.045 halved at eight of them, 2,000 test images."""
    recipe = read_recipe(f"{name}_pyramid_mobilenet_paper")
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.drop_last) == (300, 512, False)
    assert (recipe.data.train_split, recipe.data.val_split, recipe.data.test_count) == ("trainval", "test", 2000)
    assert recipe.data.background
    assert not recipe.data.drop_classes
    assert (recipe.optimizer.lr, recipe.schedule.gamma, recipe.schedule.run_epochs) == (0.045, 0.5, 300)
    assert recipe.schedule.milestones == (50, 100, 130, 160, 190, 220, 250, 280)
    assert (recipe.augment.crop, recipe.augment.view) == ((224, 224), "centre")
    assert round(224 / recipe.augment.view_share) == 256
    assert recipe.train.batch_size // recipe.train.accumulation == 32
    assert -(-train // recipe.train.batch_size) == {7144: 14, 28607: 56}[train]


def test_own_data_asks_for_its_folder() -> None:
    with pytest.raises(FeathersegError, match=r"own_data\.yaml: .*set data\.source=PATH"):
        read_recipe("own_data")


def test_both_or_neither_of_epochs_and_steps_is_refused(mine: Path) -> None:
    for train in ("{epochs: 2, steps: 5}", "{batch_size: 4}"):
        mine.write_text(SMALLEST.replace("{epochs: 2}", train))
        with pytest.raises(FeathersegError, match=r"exactly one of train\.epochs and train\.steps"):
            read_recipe(mine)


def test_overriding_one_length_takes_the_place_of_the_other(mine: Path) -> None:
    train = read_recipe(mine, ["train.steps=7"]).train
    assert (train.steps, train.epochs) == (7, None)
    train = read_recipe(mine, ["train.steps=7", "train.epochs=3"]).train
    assert (train.steps, train.epochs) == (None, 3)


def test_several_mistakes_are_told_at_once(mine: Path) -> None:
    with pytest.raises(FeathersegError, match=r"augment\.flip.*train\.seeds"):
        read_recipe(mine, ["augment.flip=2", "train.seeds=1"])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optimizer": {"nesterov": True, "momentum": 0}}, "nesterov needs a momentum"),
        ({"loss": {"kind": "ohem", "threshold": 1.5}}, "probability, at most 1"),
        ({"task": "classification", "loss": {"kind": "ohem"}}, "plain cross-entropy"),
        ({"start": {"encoder": "a", "weights": "b"}}, "start.encoder or start.weights, not both"),
        ({"schedule": {"warmup": 5, "slow_start": 5}}, "schedule.warmup or schedule.slow_start, not both"),
        ({"augment": {"crop": [8, 8], "scale_step": 0.5, "log_scale": True}}, "no use with augment.log_scale"),
        ({"augment": {"crop": [8, 8], "scale_step": 1e-320}}, "does not lead from 0.5 to 2 in whole steps"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(sections: dict, message: str) -> None:
    with pytest.raises(FeathersegError, match=message):
        parse_recipe(yaml.safe_load(SMALLEST) | sections, "mine.yaml")


@pytest.mark.parametrize(
    ("override", "section", "expected"),
    [
        ("optimizer.lr=1e-3", "optimizer", {"lr": 0.001}),
        ("augment.scale=[0.7, 1.4]", "augment", {"scale": (0.7, 1.4)}),
        ("train.drop_last=true", "train", {"drop_last": True}),
        ("train.clip_norm=null", "train", {"clip_norm": None}),
        ("data.source=/a=b/c", "data", {"source": "/a=b/c"}),
        ("model.arguments.alpha=4", "model", {"arguments": {"alpha": 4}}),
    ],
)
def test_overrides_are_dotted_names_with_yaml_values(mine: Path, override: str, section: str, expected: dict) -> None:
    values = getattr(read_recipe(mine, [override]), section).model_dump()
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize("override", ["epochs", "=3", "train.epochs=[1", "name.first=a", "name=2024-13-45"])
def test_a_malformed_override_is_refused(mine: Path, override: str) -> None:
    with pytest.raises(FeathersegError):
        read_recipe(mine, [override])


@given(
    path=st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4),
    value=st.one_of(st.integers(), st.booleans(), st.none(), st.lists(st.integers(), max_size=3)),
)
def test_an_override_sets_exactly_its_place(path: list[str], value: object) -> None:
    values = {"other": {"kept": 1}}
    apply_override(
        values, f"{'.'.join(['top', *path])}={yaml.safe_dump(value, default_flow_style=True).split('...')[0]}"
    )
    inner: object = values.pop("top")  # type: ignore[arg-type]
    for part in path:
        assert isinstance(inner, dict)
        assert list(inner) == [part]
        inner = inner[part]
    assert inner == value
    assert values == {"other": {"kept": 1}}


@pytest.mark.parametrize("content", ["- a\n- b\n", "just words", "", "a: [1", "\x00"])
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(content)
    with pytest.raises(FeathersegError, match=r"odd\.yaml"):
        read_recipe(path)


def test_a_recipe_is_closed_to_changes() -> None:
    recipe = parse_recipe(yaml.safe_load(SMALLEST), "mine.yaml")
    with pytest.raises(Exception, match="frozen"):
        recipe.train.seed = 3  # type: ignore[misc]


def test_what_travels_with_weights_names_the_run_it_started_from_but_no_folders_of_the_machine(mine: Path) -> None:
    started = ["data.source=/home/me/data/camvid", "start.weights=/home/me/runs/streets/weights.safetensors"]
    kept = without_folders(read_recipe(str(mine), started))
    assert kept["data"]["source"] == "camvid"
    assert kept["start"] == {"encoder": None, "weights": "streets/weights.safetensors", "carry": "everything"}
    relative = without_folders(read_recipe(str(mine), ["start.encoder=../weights.safetensors"]))
    assert relative["start"]["encoder"] == "weights.safetensors"


def test_a_number_in_powers_of_ten_is_a_number_where_no_type_asks_for_one(mine: Path) -> None:
    assert read_recipe(str(mine), ["model.arguments.alpha=1e-5"]).model.arguments == {"alpha": 1e-5}


def test_the_long_classifier_hands_the_detectors_a_trunk_as_they_compute_it() -> None:
    """The rates must be the same, since no tensor's shape tells them."""
    given = read_recipe("caltech101_pyramid_mobilenet_long").model
    for name in ("streets_pyramid_rpn", "kitti_pyramid_rpn"):
        for overrides in ([], ["model.name=pyramid_rpn_multi"]):
            taken = read_recipe(name, ["data.source=frames", *overrides]).model
            with torch.device("meta"):
                classifier = create_model(given.name, 100, **given.arguments)
                detector = create_model(taken.name, 1, **taken.arguments)
            there = describe_network(classifier, given.name, 100, given.arguments)
            here = describe_network(detector, taken.name, 1, taken.arguments)
            assert computed_otherwise(there, here, "backbone", where="w") == []


@pytest.mark.parametrize("name", ["streets_pyramid_rpn", "kitti_pyramid_rpn"])
def test_a_detectors_recipe_gives_ssd_by_the_overrides_that_it_names(name: str) -> None:
    model = read_recipe(name, ["data.source=frames", "model.name=ssd300_vgg16", "model.arguments={}"]).model
    with torch.device("meta"):
        create_model(model.name, 1, **model.arguments)
