"""What MkDocs calls while it builds the pages: parts taken from the code, the API pages, and the mathematics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from api_pages import api_pages
from generated import with_generated_parts
from mathematics import with_mathml
from mkdocs.structure.files import File


def on_config(config: Any) -> Any:
    """Complete the navigation: the pages of results, and those of the API in the order of the house."""
    docs = Path(config["docs_dir"])
    sections = {
        title: pages for section in config["nav"] if isinstance(section, dict) for title, pages in section.items()
    }
    for page in sorted(set((docs / "results").glob("*.md")) - {docs / "results" / "index.md"}):
        sections["Results"].append({title_of(page): page.relative_to(docs).as_posix()})
    sections["Reference"].append({"API": [{title: path} for title, path, _ in api_pages(config["docs_dir"])]})
    return config


def title_of(page: Path) -> str:
    """Return a page's first heading."""
    return page.read_text().partition("\n")[0].removeprefix("# ")


def on_files(files: Any, config: Any) -> Any:
    """Add the API pages."""
    for _, path, markdown in api_pages(config["docs_dir"]):
        files.append(File.generated(config, path, content=markdown))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what the code says, and leave out remarks to the tests."""
    return re.sub(r"<!-- not run.*?-->\n", "", with_generated_parts(markdown))


def on_page_content(html: str, **_: Any) -> str:
    """Turn formulas into MathML."""
    return with_mathml(html)
