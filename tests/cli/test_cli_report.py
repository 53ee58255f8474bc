"""``featherseg report`` of cards, as the other commands write them, from the command line; no time is asserted."""

import re

import pytest

from featherseg.cards import card, write_card
from featherseg.cli.main import main


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder to work in, with results/ that holds one card and one other file."""
    monkeypatch.chdir(tmp_path)
    made = card(
        "evaluation",
        protocol="small/48x32/train→test",
        figures={"miou": 31.25, "iou": {"ground": 40.0, "thing": 22.5}},
        command="featherseg eval",
        seeds=[0],
        data_fingerprint="f00d",
        weights="other.x",
    )
    write_card(tmp_path / "results/deep/other.json", made)
    (tmp_path / "results/settings.json").write_text('{"colour": "red"}')
    return tmp_path


@pytest.fixture
def said(capsys):
    """What a wrong call complains of, in its last line."""

    def complaint(*arguments) -> str:
        assert main(["report", *map(str, arguments)]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("featherseg: error:")
        return line

    return complaint


def test_the_cards_under_results_make_a_page_and_other_files_are_told_of(results, capsys):
    assert main(["report"]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == "report.html"
    assert "note: left out results/settings.json: the card has no field" in told.err
    html = (results / "report.html").read_text()
    assert "results/deep/other.json" in html
    assert "31.2" in html


def test_what_eval_and_bench_write_becomes_a_point(small_weights, small_data, tmp_path):
    judged, timed, output = (str(tmp_path / name) for name in ("cards/eval.json", "cards/bench.json", "page.html"))
    asked = ("--size", "32x48", "--runtime", "torch", "--precision", "fp32", "--threads", "1", "--rounds", "2")
    assert main(["eval", "-w", str(small_weights), "--data", str(small_data), "--card", judged]) == 0
    assert main(["bench", str(small_weights), *asked, "--no-memory", "--card", timed]) == 0
    assert main(["report", judged, timed, "-o", output]) == 0
    html = (tmp_path / "page.html").read_text()
    assert re.search(r"<title>small\.safetensors, torch fp32: [\d.,]+, [\d.]+</title>", html)
    assert str(tmp_path) not in html


def test_weights_and_data_give_pictures_of_what_they_see(results, small_weights, small_data):
    assert main(["report", "-w", str(small_weights), "--data", str(small_data), "--images", "2"]) == 0
    html = (results / "report.html").read_text()
    assert html.count("data:image/jpeg;base64,") == 2
    assert len(re.findall(r"small\.safetensors, [\d.]+ % agree", html)) == 2 * 2  # in alt and caption
    assert str(small_weights.parent) not in html


def test_without_results_it_says_how_cards_come_about(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = said()
    assert "there is no folder results/" in line
    assert "--card" in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("nowhere.json",), "nowhere.json: there is no such file or folder"),
        (("results/settings.json",), "no result cards"),
        (("--weights", "a.x"), "--weights, which label them, and --data"),
        (("--data", "streets"), "--weights, which label them, and --data"),
        (("--weights", "nowhere.x", "--data", "streets"), "no such weights"),
        (("--weights", "fassd_net_l2.camvid", "--data", "nowhere"), "nowhere: no such folder"),
        (("--weights", "fassd_net_l2.camvid", "--data", "streets", "--split", "vla"), "no split 'vla'"),
        (("--weights", "fassd_net_l2.camvid", "--data", "streets", "--images", "0"), "--images 0 shows nothing"),
        (("-o", "page.pdf"), "the page is one HTML file"),
        (("-o", "results"), "the page is one HTML file"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(results, said, arguments, complaint):
    assert complaint in said(*arguments)
    assert not (results / "report.html").exists()


def test_other_classes_than_the_datas_are_refused(results, said, small_weights):
    line = said("-w", small_weights, "--data", "streets")
    assert "classes" in line


def test_a_run_shows_its_own_pictures(said, small_weights, small_data, tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    assert "Leave --weights and --data out" in said(tmp_path, "-w", small_weights, "--data", small_data)


def test_a_page_that_is_there_already_is_replaced_whole(results):
    (results / "report.html").write_text("old")
    assert main(["report", "results"]) == 0
    assert (results / "report.html").read_text().startswith("<!DOCTYPE html>")
