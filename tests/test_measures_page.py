"""docs/measures.md is true: its blocks run, its tables name every measure, with the ranges that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xenoglot import measures

PAGE = (Path(__file__).parents[1] / "docs" / "measures.md").read_text()
ROWS = {
    row[0].strip("` "): row[1:] for row in (line[1:-1].split("|") for line in re.findall(r"^\| `.*\|$", PAGE, re.M))
}


def test_its_tables_name_every_measure():
    assert tuple(sorted(ROWS)) == measures.names()


@pytest.mark.parametrize("name", measures.names())
def test_ranges_are_those_of_the_code(name):
    least, greatest = measures.get(name).range
    words = f"from {least}" if greatest == float("inf") else f"{least} to {greatest}"
    assert words in [cell.strip() for cell in ROWS[name]]


@pytest.mark.parametrize("name", measures.names("matrix"))
def test_what_zeros_have_is_as_said(name):
    value = measures.get(name)([[0, 0], [0, 0]])
    assert ROWS[name][2].strip() == ("nan" if value != value else str(int(value)))


def test_its_blocks_run_and_print_what_they_say(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    printed = capsys.readouterr().out.splitlines()
    said = [float(each) for each in re.findall(r"# (-?\d\.\d\d)", blocks[0])]
    assert [round(abs(float(line)), 2) for line in printed[1:4]] == said
    assert printed[0] == str(measures.names("pair"))
