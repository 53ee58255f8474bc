"""Rows of the table of classes: single cards, and trainings of several seeds together."""

from statistics import stdev

import pytest

from featherseg.errors import FeathersegError
from featherseg.report.class_scores import ablation_table, class_blocks, grouped, read_scores
from featherseg.report.html import Cell, Heading, Table


def tables(files, ablations=(), digests=None):
    scores = [one for one in map(read_scores, files) if one]
    blocks = class_blocks(scores, ablations, digests or {})
    titles = [block.text for block in blocks if isinstance(block, Heading)]
    return dict(zip(titles, [block for block in blocks if isinstance(block, Table)], strict=True))


def row(table: Table, number: int = 0) -> dict[str, object]:
    shown = [cell.text if isinstance(cell, Cell) else cell for cell in table.rows[number]]
    return dict(zip(table.head, shown, strict=True))


@pytest.fixture
def trained(made):
    """The card of a training by a recipe with this seed."""

    def make(seed, score, *, name="fine", lr=0.1, **more):
        recipe = {"name": name, "optimizer": {"lr": lr}, "train": {"seed": seed, "steps": 9}}
        figures = {"score": score, "iou": {"car": score, "road": 90.0}, "precision": "bf16", "pixel_accuracy": 90.0}
        about = {"model": "drbanet", "recipe": recipe, "seeds": [seed], "protocol": "camvid11/480x360/train→val"}
        return made("training", figures, **about | {"name": f"{name}{seed}.json"} | more)

    return make


def test_a_protocol_has_a_table_with_the_best_network_first(evaluated):
    cards = [
        evaluated("b.x", 50.0, {"car": 40.0, "road": None}),
        evaluated("a.x", 60.0, {"car": 61.27, "road": 58.0}),
        evaluated("a.x", 70.0, {"car": 40.0, "road": 50.0}, protocol="other/9x9/train→val"),
    ]
    found = tables(cards)
    assert set(found) == {"camvid11/480x360/train→test", "other/9x9/train→val"}
    table = found["camvid11/480x360/train→test"]
    best = row(table)
    assert (best["network"], best["mIoU"], best["car"], best["card"]) == ("a.x", "60.0", "61.3", "a.x.json")
    assert best["95 % interval over images"] == "58.5 to 61.4"
    assert row(table, 1)["road"] is None


def test_a_cell_is_shaded_by_its_iou(evaluated):
    table = next(iter(tables([evaluated("a.x", 60.0, {"car": 25.0})]).values()))
    assert Cell("25.0", share=0.25) in table.rows[0]


def test_other_classes_have_a_table_of_their_own(evaluated):
    found = class_blocks(
        [one for one in map(read_scores, [evaluated("a.x", 60.0), evaluated("b.x", 60.0, {"cow": 60.0})]) if one],
        (),
        {},
    )
    assert len([block for block in found if isinstance(block, Table)]) == 2


def test_trainings_that_differ_in_their_seed_alone_are_one_row_with_mean_and_spread(trained):
    scores = {0: 60.0, 1: 61.0, 2: 65.0}
    found = row(next(iter(tables([trained(seed, score) for seed, score in scores.items()]).values())))
    expected = f"62.0 ± {stdev(scores.values()):.1f}"
    assert (found["network"], found["seeds"], found["mIoU"], found["car"]) == ("fine", "0, 1, 2", expected, expected)
    assert found["road"] == "90.0 ± 0.0"
    assert found["card"] == "fine0.json, fine1.json, fine2.json"


def test_a_recipes_name_may_end_in_its_seed(trained):
    cards = [trained(seed, 60.0, name=f"fine-seed{seed}") for seed in (0, 1)]
    assert row(next(iter(tables(cards).values())))["network"] == "fine"


@pytest.mark.parametrize(
    "other",
    [{"seed": 1, "lr": 0.2}, {"seed": 1, "name": "coarse"}, {"seed": 0}, {"seed": 1, "model": "fassd_net"}],
    ids=str,
)
def test_trainings_that_differ_otherwise_or_in_no_seed_stand_apart(trained, other):
    cards = [trained(0, 60.0), trained(**{"score": 61.0} | other)]
    assert [len(group) for group in grouped([one for one in map(read_scores, cards) if one])] == [1, 1]


def test_evaluations_whose_recipe_is_not_known_stand_apart(evaluated):
    cards = [evaluated("a.x", 60.0 + seed, seeds=[seed]) for seed in (0, 1)]
    assert [len(group) for group in grouped([one for one in map(read_scores, cards) if one])] == [1, 1]


def test_evaluations_of_one_recipe_with_several_seeds_are_one_row(evaluated):
    cards = [evaluated(f"a.x{seed}", 60.0, seeds=[seed], recipe=f"a_seed{seed}") for seed in (0, 1)]
    assert row(next(iter(tables(cards).values())))["mIoU"] == "60.0 ± 0.0"


@pytest.mark.parametrize(
    "other", [{"trained_steps": 9}, {"precision": "bf16"}, {"balance": {"data": "x/val"}}], ids=str
)
def test_evaluations_that_differ_otherwise_stand_apart(evaluated, other):
    cards = [evaluated("a.x0", 60.0, seeds=[0], recipe="a"), evaluated("a.x1", 60.0, seeds=[1], recipe="a", **other)]
    assert [len(group) for group in grouped([one for one in map(read_scores, cards) if one])] == [1, 1]


def test_weights_of_the_package_are_told_from_earlier_ones_of_the_name(evaluated):
    cards = [evaluated("a.x", 60.0), evaluated("a.x", 61.0, weights_sha256="cd" * 32)]
    table = next(iter(tables(cards, digests={"a.x": "cd" * 32}).values()))
    assert [("ships" in str(row(table, number)[""])) for number in (0, 1)] == [True, False]


def test_a_card_without_classes_has_no_row(made):
    assert read_scores(made("evaluation", {"top1": 50.0})) is None


def test_an_ablation_shows_mean_spread_and_every_seed(made):
    figures = {"none": {"miou": 50.0, "miou_deviation": 0.5, "miou_seeds": [49.5, 50.5]}, "both": {"miou": 51.0}}
    table = ablation_table(made("ablation", figures))
    assert [list(row) for row in table.rows] == [["none", "miou", "50.00 ± 0.50", "49.50, 50.50"]]


@pytest.mark.parametrize(
    "figures", [{"iou": 7}, {"iou": {"car": "high"}}, {"iou": {"car": 1.0}, "miou": [1]}, {"iou": {"car": True}}]
)
def test_spoilt_figures_are_named(made, figures):
    with pytest.raises(FeathersegError, match="must be"):
        read_scores(made("evaluation", figures, weights="a.x"))
