"""Which network goes to which runtime, recorded from the outcomes of the tests that try it.

Choices worth knowing:

- A test that tries a pair calls :func:`trying` first; its outcome is then the pair's. Outcomes travel with pytest's own
  reports, so that tests in several processes are recorded too.
- ``pytest --support-card FILE`` writes the card. What was recorded there before and was not tried this time stays, with
  the date at which it was tried.
- A pair that is known not to go is expected to fail, with its reason; when it goes, the test fails and asks for the
  reason to be struck out.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

PASSED, FAILED, NOT_RUN, REFUSED = "passed", "failed", "not run here", "no"


def trying(request: pytest.FixtureRequest, network: str, runtime: str, passed: str = PASSED) -> None:
    """Say that the running test tries a pair; ``passed`` is the word for its passing."""
    request.node.user_properties.append(("support", (network, runtime, passed)))


def read_outcome(report: pytest.TestReport) -> tuple[str, str, dict[str, Any]] | None:
    """Network, runtime, and what the report of a test says of them; None of other tests, and of those left out."""
    tried = dict(report.user_properties).get("support")
    if tried is None or report.when != "call":
        return None
    network, runtime, passed = tried
    reason = getattr(report, "wasxfail", None)
    if reason is not None and report.skipped:
        found = {"status": REFUSED, "reason": reason.removeprefix("reason: ")}
    elif report.passed:
        found = {"status": passed}
    elif report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message if crash else str(report.longrepr)
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        found = {"status": FAILED, "reason": " ".join(lines[:3])[:300]}
    else:
        return None
    return network, runtime, found | {"tried": datetime.now(UTC).strftime("%Y-%m-%d")}


def joined(before: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Networks to runtimes to outcomes, what was found now in place of what was known before; sorted."""
    pairs = {network: dict(runtimes) for network, runtimes in before.items()}
    for network, runtimes in found.items():
        pairs.setdefault(network, {}).update(runtimes)
    return {network: dict(sorted(pairs[network].items())) for network in sorted(pairs)}


class SupportRecorder:
    """Collects outcomes and writes them into the card at the end; a pytest plugin.

    Args:
        file: the card.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = read_outcome(report)
        if outcome is not None:
            network, runtime, said = outcome
            self.found.setdefault(network, {})[runtime] = said

    def pytest_sessionfinish(self) -> None:
        from featherseg.cards import card, read_card, write_card

        if not self.found:
            return
        before = read_card(self.file)["figures"] if self.file.is_file() else {}
        made = card(
            "support",
            protocol="export parity tests, fresh weights, float32",
            figures=joined(before, self.found),
            command="pytest tests/deploy/test_exported_networks.py --support-card results/support.json",
            seeds=[],
            data_fingerprint=None,
        )
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_card(self.file, made)
