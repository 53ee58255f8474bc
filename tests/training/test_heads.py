"""Settings of losses on heads that training alone has: refused where they would do nothing, and told where they did."""

from typing import Any

import pytest
import torch

from featherseg.errors import FeathersegError
from featherseg.models.registry import create_model
from featherseg.recipes.reading import parse_recipe, read_experiment, without_folders
from featherseg.recipes.schema import Loss, Recipe, StagedRecipe
from featherseg.recipes.shipped import shipped_recipes
from featherseg.training.heads import check_heads, told_recipe
from featherseg.training.start import fresh_network


def recipe(model: str, **loss: Any) -> Recipe:
    values = {
        "name": "small",
        "model": {"name": model},
        "data": {"source": "streets"},
        "augment": {"crop": [64, 64]},
        "train": {"steps": 1},
        "loss": loss,
    }
    return parse_recipe(values, "small")


def network_of(given: Recipe) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(given.model.name, 3, **given.model.arguments)


@pytest.mark.parametrize(
    ("model", "loss", "told"),
    [
        ("fassd_net_l2", {"boundary": "published"}, r"loss\.boundary=published: .* fassd_net_l2 has none"),
        ("fassd_net_l2", {"boundary_weight": 0.5}, r"loss\.boundary_weight=0\.5: .*output 'boundary' in training"),
        ("fassd_net_l2", {"auxiliary_weight": 0.4}, r"loss\.auxiliary_weight=0\.4: .*output 'auxiliary' in training"),
        ("fasterseg_student", {"boundary": "published"}, r"fasterseg_student has none"),
    ],
)
def test_a_loss_on_a_head_that_the_network_lacks_is_refused(model: str, loss: dict[str, Any], told: str) -> None:
    given = recipe(model, **loss)
    with pytest.raises(FeathersegError, match=told):
        check_heads(given, network_of(given))


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        ("drbanet", {"boundary": "published", "boundary_weight": 0.5, "auxiliary_weight": 0.4}),
        ("fasterseg_student", {"auxiliary_weight": 0.4}),
        ("fassd_net_l2", {}),
        ("fassd_net_l2", {"boundary": "corrected", "boundary_weight": 0.1, "auxiliary_weight": 0.2}),
        ("fassd_net_l2", {"boundary": "none", "boundary_weight": 0.0, "auxiliary_weight": 0.0}),
    ],
    ids=["its heads", "its head", "nothing set", "defaults, as in a run's recipe.yaml", "no such loss"],
)
def test_what_weighs_a_head_or_says_that_there_is_none_is_accepted(model: str, loss: dict[str, Any]) -> None:
    given = recipe(model, **loss)
    check_heads(given, network_of(given))


def test_shipped_recipes_set_no_loss_that_their_networks_lack() -> None:
    for name in shipped_recipes():
        experiment = read_experiment(name, ["data.source=nowhere"])
        for one in experiment.stages if isinstance(experiment, StagedRecipe) else [experiment]:
            if one.loss != Loss():
                with torch.device("meta"):
                    check_heads(one, fresh_network(one))


@pytest.mark.parametrize(
    ("model", "lacking"),
    [
        ("drbanet", set()),
        ("fasterseg_student", {"boundary", "boundary_weight"}),
        ("fassd_net_l2", {"boundary", "boundary_weight", "auxiliary_weight"}),
    ],
)
def test_the_told_recipe_names_no_loss_that_was_not_there_and_is_a_recipe_still(model: str, lacking: set[str]) -> None:
    given = recipe(model)
    told, whole = told_recipe(given, network_of(given)), without_folders(given)
    assert whole["loss"].keys() - told["loss"].keys() == lacking
    assert told | {"loss": {}} == whole | {"loss": {}}
    assert Recipe.model_validate(told) == given
