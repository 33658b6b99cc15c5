"""The picture of the loss by position: what is in it, and files that are whole or absent."""

from __future__ import annotations

import re

import pytest

from xenoglot.errors import OptionError, OutputError
from xenoglot.evaluations.base import Row
from xenoglot.figures import draw_loss_by_position


def rows(level: float, *, floor: bool, length: int = 40) -> list[Row]:
    made = []
    for position in range(1, length + 1):
        loss = level / position**0.5
        metrics = {"loss_nats": loss, "loss_nats_low": loss - 0.1, "loss_nats_high": loss + 0.1, "uniform_nats": 2.5}
        metrics |= {"floor_nats": 0.25} if floor else {}
        made.append(Row(slices={"tokens_read": position}, metrics=metrics))
    return [*made, Row(slices={"part": "whole"}, metrics={"loss_nats": level})]


def words_in(path) -> str:
    return " ".join(re.findall(r"<!-- (.*?) -->", path.read_text()))


@pytest.mark.parametrize("floor", [True, False])
def test_lines_are_labelled_with_what_they_are(tmp_path, floor):
    path = tmp_path / "figure.svg"
    evaluations = {step: rows(level, floor=floor) for step, level in ((0, 2.5), (100, 2.0), (700, 1.5), (1200, 1.0))}
    draw_loss_by_position(evaluations, path, title="Reading", per="byte")
    words = words_in(path)
    assert "Reading" in words
    assert "bytes read" in words
    assert "guessing, 2.50" in words
    assert "after 100 steps, 0.3" in words
    assert "after 1,200 steps, 0.1" in words
    assert ("best possible, 0.25" in words) == floor
    assert "after 0 steps" not in words  # before the first step every model guesses
    assert "after 700 steps" not in words  # too near to the last to tell anything


@pytest.mark.parametrize(("exactness", "label"), [("exact", "best learner"), ("bound", "simple learner")])
def test_the_reference_predictor_that_loses_least_is_drawn(tmp_path, exactness, label):
    references = [
        Row(slices={"predictor": name, "exactness": exactness, **row.slices}, metrics=row.metrics)
        for name, level in (("good", 0.7), ("worse", 1.5))
        for row in rows(level, floor=True)
    ]
    draw_loss_by_position({10: rows(1.0, floor=True)}, tmp_path / "figure.svg", title="Reading", references=references)
    words = words_in(tmp_path / "figure.svg")
    assert f"{label}, 0.12" in words
    assert words.count("learner") == 1


def test_an_interval_that_is_not_known_is_not_drawn(tmp_path):
    read_from_json = [
        Row(slices=row.slices, metrics={**row.metrics, "loss_nats_low": None}) for row in rows(1.0, floor=False)
    ]
    draw_loss_by_position({10: read_from_json}, tmp_path / "figure.svg", title="Reading")
    assert "after 10 steps" in words_in(tmp_path / "figure.svg")


@pytest.mark.parametrize("length", [1, 2, 3, 1000])
@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_any_length_and_ending_can_be_drawn(tmp_path, length, ending):
    path = tmp_path / f"figure.{ending}"
    draw_loss_by_position({0: rows(2.5, floor=True, length=length)}, path, title="Reading")
    assert path.read_bytes()[:4] == {"png": b"\x89PNG", "pdf": b"%PDF"}[ending]


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OptionError, match=r"\.png, \.svg, \.pdf"):
        draw_loss_by_position({1: rows(1.0, floor=True)}, tmp_path / "figure.bmp", title="Reading")
    with pytest.raises(OutputError):
        draw_loss_by_position({1: rows(1.0, floor=True)}, tmp_path / "absent" / "figure.png", title="Reading")
    assert list(tmp_path.iterdir()) == []
