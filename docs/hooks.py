"""What MkDocs calls while it builds the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs import coming_from, examples, figures, library, measured, navigation, operations

_DRAWN = Path(__file__).parents[1] / "build" / "scaling"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages and pictures that are made, and the order of all pages."""
    ran, pictures = examples.pages(full=config.extra["full_examples"])
    for path, content in {**operations.pages(), **library.pages(), **coming_from.pages(), **ran}.items():
        files.append(File.generated(config, path, content=content))
    drawn = {f"scaling/{path.name}": path for path in figures.scaling(measured.SCALING / "scaling.json", _DRAWN)}
    for path, source in {**pictures, **drawn}.items():
        files.append(File.generated(config, path, abs_src_path=str(source)))
    written: list[Any] = config.nav or []
    config.nav = navigation.expanded(written, [page.src_uri for page in files.documentation_pages()])
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page's text with the measured figures in their places."""
    return measured.filled(markdown)
