"""Names of the recipes that come with the package; nothing heavy is imported, since ``train --help`` lists them."""

from pathlib import Path

SHIPPED = Path(__file__).parent


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))
