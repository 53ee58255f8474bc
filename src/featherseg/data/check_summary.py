"""The checker's report as one page of plain text."""

from featherseg.data.check import CheckReport, Problem

_SIZES_SHOWN = 4


def sizes_line(sizes: dict[str, int]) -> str:
    """The most frequent sizes with their counts, and how many others there are."""
    shown = [f"{size} ({count})" for size, count in list(sizes.items())[:_SIZES_SHOWN]]
    return ", ".join(shown) + (f" and {len(sizes) - _SIZES_SHOWN} more" if len(sizes) > _SIZES_SHOWN else "")


def problem_lines(problems: tuple[Problem, ...], unlisted: dict[str, int], each: int) -> list[str]:
    """Every kind of problem, ``each`` of it spelt out; ``unlisted`` counts those that are not among ``problems``."""
    lines = []
    for level, kind in dict.fromkeys((problem.level, problem.kind) for problem in problems):
        alike = [problem for problem in problems if (problem.level, problem.kind) == (level, kind)]
        lines.append(f"{level.upper()}: {kind} ({len(alike) + unlisted.get(kind, 0)})")
        lines += [f"  {problem.where}: {problem.what}. {problem.mend}" for problem in alike[:each]]
        if len(alike) + unlisted.get(kind, 0) > each:
            lines.append(f"  ... and {len(alike) + unlisted.get(kind, 0) - each} more")
    return lines


def summary_lines(report: CheckReport, *, each: int = 3) -> list[str]:
    """Return the report as lines of text: splits, classes, problems (``each`` of every kind) and the verdict."""
    lines = [f"{report.data}: {report.name}", ""]
    width = max([len(name) for name in report.splits] + [8]) + 2
    lines.append(f"{'split':<{width}}{'pairs':>8}{'sound':>8}{'ignored':>9}  sizes")
    for name, split in report.splits.items():
        row = f"{name:<{width}}{split.images:>8}{split.sound:>8}{split.ignore_share:>9.1%}  {sizes_line(split.sizes)}"
        lines.append(row.rstrip())
    width = max([len(name) for name in report.classes] + [5]) + 2
    columns = {name: max(8, len(name) + 2) for name in report.splits}
    heads = "".join(f"{name:>{column}}" for name, column in columns.items())
    lines += ["", f"{'class':<{width}}{'share':>8}{'images':>8}{heads}"]
    for name, count in report.classes.items():
        by_split = "".join(f"{report.splits[at].class_images[name]:>{column}}" for at, column in columns.items())
        lines.append(f"{name:<{width}}{count.share:>8.2%}{count.images:>8}{by_split}")
    lines += ["", *problem_lines(report.problems, report.unlisted, each)]
    verdict = "fit for training" if report.ok else "NOT fit for training: mend the errors above"
    return [*lines, f"{report.data}: {verdict}."]
