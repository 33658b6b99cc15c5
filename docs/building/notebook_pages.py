"""Notebooks as pages: executes each and writes what it says and draws beside it, as NAME.md and NAME-1.png, ...

python docs/building/notebook_pages.py [NAME ...]
"""

from __future__ import annotations

import base64
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LONGEST_CELL_SECONDS = 3600


def main(names: list[str]) -> None:
    """Write the pages of the notebooks of these names, or of all."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or path.stem in names:
            write_page(path)


def write_page(path: Path) -> None:
    """Execute a notebook where it leaves nothing behind, and write its page and its pictures."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, timeout=LONGEST_CELL_SECONDS, kernel_name="python3", coalesce_streams=True, resources=resources
        ).execute()
    text, pictures = page(notebook, path.stem)
    for old in path.parent.glob(f"{path.stem}-*.png"):
        old.unlink()
    for name, picture in pictures.items():
        (path.parent / name).write_bytes(picture)
    path.with_suffix(".md").write_text(text)
    print(f"{path.with_suffix('.md')}: {len(pictures)} pictures")


def page(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """Return a page in Markdown, and its pictures by the names of their files.

    Args:
        notebook: As nbformat reads it, with its outputs.
        name: Of the notebook, without ending.
    """
    parts, pictures = list[str](), dict[str, bytes]()
    heading = name
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE) or [heading])[-1]
            parts.append(re.sub(r"(\]\([\w/]+)\.ipynb\)", r"\1.md)", cell.source))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stdout":
                parts.append(f"```text\n{output.text.rstrip()}\n```")
            elif "image/png" in output.get("data", {}):
                picture = f"{name}-{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode(output.data["image/png"])
                parts.append(f"![{heading}]({picture})")
    parts.insert(
        1,
        f"*This page is the notebook [{name}.ipynb]({name}.ipynb) with what it prints and draws, from "
        f"`python docs/building/notebook_pages.py {name}`.*",
    )
    return "\n\n".join(parts) + "\n", pictures


if __name__ == "__main__":
    main(sys.argv[1:])
