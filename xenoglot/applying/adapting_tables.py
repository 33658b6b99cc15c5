"""What adapting came to, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xenoglot.evaluations.base import Row

__all__ = ["few_shot_tables", "language_difference_table", "language_table"]

ByModel = Mapping[str, Sequence[Row]]
MEASURES = {"accuracy": "accuracy", "loss_nats": "loss in nats"}
NOT_ZERO = "*"
"""Behind a difference whose interval lies on one side of zero."""


def few_shot_tables(results: ByModel, differences: ByModel, *, against: str | None = None) -> str:
    """Write accuracy and loss after every number of steps, models one below the other, differences below them.

    Args:
        results: Rows of each model, as `rows_of` makes them.
        differences: Rows of some models, as `paired_rows` makes them.
        against: Which model they are differences to.
    """
    tables = [_few_shot_table(name, results, differences) for name in MEASURES]
    metrics = next(iter(results.values()))[0].metrics
    told = f"chance {metrics['chance_accuracy']:.3f}; {metrics['n_episodes']:,} tasks; ± 95 % interval over tasks"
    if differences:
        told += (
            f"\ndifferences to {against}: task by task, on the same tasks; {NOT_ZERO} the interval does not hold zero"
        )
    return "\n\n".join([*tables, told])


def _few_shot_table(name: str, results: ByModel, differences: ByModel) -> str:
    every = [row for rows in results.values() for row in rows]
    ways = dict.fromkeys((row.slices["method"], row.slices.get("control")) for row in every)
    steps = sorted({int(row.slices["adaptation_steps"]) for row in every})
    lines = [[f"{MEASURES[name]} after gradient steps", *map(str, steps), "± at most"]]
    for method, control in ways:
        called = f"{method}, {control}" if control else str(method)
        of_models = {model: _of_way(rows, method, control) for model, rows in results.items()}
        if len(results) == 1:
            lines += [[called, *_cells(of_way, name, steps)] for of_way in of_models.values()]
            continue
        lines.append([called, *[""] * (len(steps) + 1)])
        lines += [[f"  {model}", *_cells(of_way, name, steps)] for model, of_way in of_models.items() if of_way]
        for model, rows in differences.items():
            if less := _of_way(rows, method, control):
                label = "difference" if len(differences) == 1 else f"{model}, difference"
                lines.append([f"  {label}", *_cells(less, f"{name}_difference", steps)])
    return _aligned(lines)


def _of_way(rows: Sequence[Row], method: object, control: object) -> dict[int, Row]:
    """Return a way's rows by their number of steps."""
    return {
        int(row.slices["adaptation_steps"]): row
        for row in rows
        if (row.slices["method"], row.slices.get("control")) == (method, control)
    }


def _cells(of_way: Mapping[int, Row], name: str, steps: Sequence[int]) -> list[str]:
    widest = max(row.metrics[f"{name}_high"] - row.metrics[name] for row in of_way.values())
    return [*(_cell(of_way[n], name) if n in of_way else "" for n in steps), f"{widest:.3f}"]


def _cell(row: Row, name: str) -> str:
    if not name.endswith("_difference"):
        return f"{row.metrics[name]:.3f} "
    is_sure = row.metrics[f"{name}_low"] > 0 or row.metrics[f"{name}_high"] < 0
    return f"{row.metrics[name]:+.3f}{NOT_ZERO if is_sure else ' '}"


def language_table(rows: Sequence[Row]) -> str:
    """Write losses, a line for each number of tokens seen, a column for each way of seeing them."""
    metrics = rows[0].metrics
    yardsticks = f"best possible {metrics['floor_nats']:.3f}, guessing {metrics['uniform_nats']:.3f}"
    return f"{_by_tokens_seen(rows, 'loss_nats')}\n\n{yardsticks}; ± 95 % interval over languages"


def language_difference_table(rows: Sequence[Row]) -> str:
    """Write differences of losses in the same way; below zero, the first model loses less."""
    return f"{_by_tokens_seen(rows, 'loss_nats_difference')}\n\nlanguage by language; ± 95 % interval over languages"


def _by_tokens_seen(rows: Sequence[Row], name: str) -> str:
    ways = list(dict.fromkeys(row.slices["learning"] for row in rows))
    sign = "+" if name.endswith("_difference") else ""
    lines = [["nats a token, after tokens seen:", *map(str, ways)]]
    for seen in sorted({int(row.slices["tokens_seen"]) for row in rows}):
        metrics = {row.slices["learning"]: row.metrics for row in rows if row.slices["tokens_seen"] == seen}
        known = {way: f"{of[name]:{sign}.3f} ± {of[f'{name}_high'] - of[name]:.3f}" for way, of in metrics.items()}
        lines.append([f"{seen:,}", *(known.get(way, "") for way in ways)])
    return _aligned(lines)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )
