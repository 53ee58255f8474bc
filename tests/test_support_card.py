"""The support card is what the tests found: outcomes become entries, and what was not tried again stays."""

import textwrap
from pathlib import Path

import pytest

from featherseg.cards import read_card
from support_card import joined

pytest_plugins = ("pytester",)

TRIALS = """
    import pytest
    from support_card import trying

    @pytest.mark.parametrize("name", ["good", "bad", "absent", "gone"])
    def test_pair(name, request):
        if name == "absent":
            pytest.skip("not installed")
        trying(request, name, "runtime")
        if name == "gone":
            request.applymarker(pytest.mark.xfail(reason="no such operator", strict=True))
        assert name == "good", "3 pixels differ"

    def test_another_thing():
        pass

    def test_converted(request):
        trying(request, "good", "other", "converted, not run here")
"""


@pytest.fixture
def recorded(pytester: pytest.Pytester) -> Path:
    """A card that a small suite wrote."""
    pytester.makeconftest(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from support_card import SupportRecorder

        def pytest_configure(config):
            config.pluginmanager.register(SupportRecorder(Path("card.json")))
        """
    )
    pytester.makepyfile(textwrap.dedent(TRIALS))
    pytester.runpytest_subprocess("-p", "no:cacheprovider")
    return pytester.path / "card.json"


def test_every_outcome_is_recorded_with_its_reason(recorded):
    found = read_card(recorded)["figures"]
    said = {
        (network, runtime): (entry["status"], entry.get("reason"))
        for network, runtimes in found.items()
        for runtime, entry in runtimes.items()
    }
    assert said.pop(("bad", "runtime"))[0] == "failed"
    assert "3 pixels differ" in found["bad"]["runtime"]["reason"]
    assert said == {
        ("good", "runtime"): ("passed", None),
        ("good", "other"): ("converted, not run here", None),
        ("gone", "runtime"): ("no", "no such operator"),
    }


def test_what_was_not_tried_again_stays():
    before = {"b": {"onnx": {"status": "passed"}, "litert": {"status": "no"}}}
    after = joined(before, {"b": {"litert": {"status": "passed"}}, "a": {"onnx": {"status": "failed"}}})
    assert after == {
        "a": {"onnx": {"status": "failed"}},
        "b": {"litert": {"status": "passed"}, "onnx": {"status": "passed"}},
    }
    assert before["b"]["litert"] == {"status": "no"}
