"""The picture of one row, token by token: what is written and framed in it, and what cannot be drawn."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from xenoglot.errors import OptionError
from xenoglot.figures_reading import draw_nats_by_position, draw_reading
from xenoglot.languages import Markov, MetaLMv1

FAMILY = MetaLMv1(vocab_size=9, n_elements=3, element_length=5, error_rate=0.3, separator=True)
FRAME = re.compile(r'<path d="[^"]*"[^>]*style="fill: [^"]*stroke: #000000')


def words_in(path: Path) -> list[str]:
    return re.findall(r"<!-- (.*?) -->", path.read_text())


@pytest.mark.parametrize(("first", "n_shown"), [(0, 30), (17, 20), (55, 48)])
def test_it_writes_what_was_said_and_what_was_read_and_frames_what_differs(
    tmp_path: Path, first: int, n_shown: int
) -> None:
    batch = FAMILY.batch(batch_size=1, length=60, seed=4)
    inputs, targets = batch.inputs[0], batch.targets[0]
    path = tmp_path / "row.svg"
    draw_reading(inputs, targets, path, family=FAMILY, title="One row", first=first, n_shown=n_shown)
    spelled = {0: "M", FAMILY.separator_id: "|"}
    read = inputs[first : first + n_shown].tolist()
    said = [inputs[0], *targets[:-1]][first : first + n_shown]
    wanted = Counter([spelled.get(token, str(token)) for token in [*said, *read]])
    assert Counter(words_in(path)) == wanted + Counter(["One row", "said", "read"])
    n_disturbed = sum(one != other for one, other in zip(said, read, strict=True))
    assert len(FRAME.findall(path.read_text())) == n_disturbed
    assert n_disturbed > 0


def test_what_is_not_disturbed_is_drawn_once_with_what_it_cost(tmp_path: Path) -> None:
    family = Markov(vocab_size=4, order=1)
    batch = family.batch(batch_size=1, length=24, seed=0, floor=True)
    nats = {"a model": batch.floor_nats[0] + 1, "the floor": batch.floor_nats[0]}
    draw_reading(batch.inputs[0], batch.targets[0], tmp_path / "row.svg", family=family, title="Chains", nats=nats)
    words = words_in(tmp_path / "row.svg")
    assert {"read", "a model", "the floor", "loss, nats", "tokens read before"} <= set(words)
    assert "said" not in words


def test_the_cost_stands_above_the_token_it_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("xenoglot.figures_reading.save_figure", lambda figure, path: drawn.append(figure))
    tokens = np.array([1, 2, 3, 4, 1, 2])  # after 1 comes 2, at a cost of 0.1, ...
    nats = {"a model": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}
    family = Markov(vocab_size=4, order=1)
    draw_reading(tokens, np.roll(tokens, -1), tmp_path / "row.png", family=family, title="", first=2, nats=nats)
    [line] = drawn[0].axes[1].lines
    assert line.get_xdata().tolist() == [2, 3, 4, 5]
    assert line.get_ydata().tolist() == [0.2, 0.3, 0.4, 0.5]


def test_losses_by_position_are_means_over_rows_named_where_they_end(tmp_path: Path) -> None:
    lost = {"guessing": np.full((2, 64), 1.5), "a model": np.array([np.linspace(2, 1, 64), np.linspace(1, 0, 64)])}
    draw_nats_by_position(lost, tmp_path / "curves.svg", title="Means", label="what")
    words = words_in(tmp_path / "curves.svg")
    assert {"Means", "what", "tokens read", "guessing, 1.50", "64"} <= set(words)
    [end] = [word for word in words if word.startswith("a model")]
    assert 0.5 < float(end.split(", ")[1]) < 0.7  # over the last three bins of the mean, which falls from 1.5 to 0.5


@pytest.mark.parametrize(
    "nats", [{}, {"one": [1.0, 2.0]}, {"one": [[1.0]], "other": [[1.0, 2.0]]}, {key: [[1.0]] for key in "abcdef"}]
)
def test_curves_that_cannot_be_drawn_leave_nothing(tmp_path: Path, nats: dict[str, list[list[float]]]) -> None:
    with pytest.raises(OptionError, match="nats"):
        draw_nats_by_position(nats, tmp_path / "curves.png", title="")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_drawn_leaves_nothing(tmp_path: Path) -> None:
    batch = FAMILY.batch(batch_size=2, length=20, seed=0, floor=True)
    inputs, targets, path = batch.inputs[0], batch.targets[0], tmp_path / "row.png"
    with pytest.raises(OptionError, match="targets"):
        draw_reading(inputs, targets[:-1], path, family=FAMILY, title="")
    with pytest.raises(OptionError, match="nats of all"):
        draw_reading(inputs, targets, path, family=FAMILY, title="", nats={"all": batch.floor_nats})
    with pytest.raises(OptionError, match="at most 5 besides guessing"):
        draw_reading(inputs, targets, path, family=FAMILY, title="", nats=dict.fromkeys("abcdef", batch.floor_nats[0]))
    with pytest.raises(OptionError, match="first"):
        draw_reading(inputs, targets, path, family=FAMILY, title="", first=20)
    with pytest.raises(OptionError, match=r"\.png"):
        draw_reading(inputs, targets, tmp_path / "row.bmp", family=FAMILY, title="")
    assert list(tmp_path.iterdir()) == []
