"""Names of the recipes that come with the package; nothing heavy is imported, since ``train --help`` lists them."""

from pathlib import Path

SHIPPED = Path(__file__).parent


SEARCH_ENDING = "_search"


def shipped_recipes() -> list[str]:
    """Names of the trainings' recipes that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml") if not path.stem.endswith(SEARCH_ENDING))


def shipped_searches() -> list[str]:
    """Names of the recipes of architecture searches that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{SEARCH_ENDING}.yaml"))
