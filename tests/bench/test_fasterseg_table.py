"""FasterSeg, its tutor, its Pixel Shuffle student and HRNet beside the printed figures and the published code's."""

import json
import math
from typing import Any

import pytest

from featherseg.bench.paper_tables import paper_table

# The layouts of Yang et al. that no code was published for, as an independent build of the same layers measures them:
# parameters deployed and conv MACs in 10^9.
YANG = {
    "Baseline student net": (3_421_875, 27.77),
    "Tutor net w. 1/4-path": (3_865_267, 100.49),
    "Student net (w. virtual 1/4-path)": (3_421_875, 27.77),
    "Original net": (3_421_875, 27.77),
    "Our net with dep. sep. conv & PS": (3_308_531, 27.79),
}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return paper_table("fasterseg")


def test_what_the_published_code_measures_is_met_to_the_unit(rows: list[dict[str, Any]]) -> None:
    measured = [row for row in rows if "published_code" in row]
    assert len(measured) == 6
    for row in measured:
        code, ours = row["published_code"], row["ours"]
        assert ours["parameters"] == code["parameters"], row["row"]
        assert ours["parameters_deployed"] == code["parameters_deployed"], row["row"]
        assert ours["conv_macs"] / 1e9 == pytest.approx(code["conv_gmacs"], rel=2e-4), row["row"]


def test_the_layouts_of_yang_et_al_cost_what_they_measure(rows: list[dict[str, Any]]) -> None:
    found = {row["row"]: row["ours"] for row in rows if row["table"] in ("1", "3")}
    assert {name: ours["parameters"] for name, ours in found.items()} == {name: n for name, (n, _) in YANG.items()}
    for name, (_, macs) in YANG.items():
        assert found[name]["gflops"] == pytest.approx(macs, abs=0.01)


def test_yang_et_al_s_figures_are_ours_rounded_and_cut(rows: list[dict[str, Any]]) -> None:
    for row in (row for row in rows if row["table"] in ("1", "3")):
        assert round(row["ours"]["parameters"], -5) == row["paper"]["parameters"]
        assert math.floor(row["ours"]["gflops"]) == row["paper"]["gflops"]


def test_hrnet_s_readme_is_met_in_its_own_counting(rows: list[dict[str, Any]]) -> None:
    printed = [row for row in rows if row["table"] == "HRNet's README" and row["paper"]["gflops"]]
    assert len(printed) == 3
    for row in printed:
        assert row["ours"]["gflops"] == pytest.approx(row["paper"]["gflops"], abs=0.05)
        assert row["ours"]["parameters"] == pytest.approx(row["paper"]["parameters"], abs=60_000)


def test_fasterseg_s_parameters_are_those_as_built_for_training(rows: list[dict[str, Any]]) -> None:
    row = next(row for row in rows if row["row"] == "FasterSeg")
    assert round(row["ours"]["parameters"], -5) == row["paper"]["parameters"]
    assert row["ours"]["gflops"] == pytest.approx(row["paper"]["gflops"], rel=0.02)


def test_the_table_is_json(rows: list[dict[str, Any]]) -> None:
    assert json.loads(json.dumps(rows)) == rows
