"""What MkDocs calls while it builds the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs import coming_from, examples, figures, library, measured, navigation, notebook, operations

_DRAWN = Path(__file__).parents[1] / "build" / "drawn"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages and pictures that are made, and the order of all pages."""
    ran, pictures = examples.pages(full=config.extra["full_examples"])
    made = (operations.pages(), library.pages(), coming_from.pages(), notebook.pages(), ran)
    for path, content in [page for pages in made for page in pages.items()]:
        files.append(File.generated(config, path, content=content))
    for path, source in {**pictures, **figures.drawn(_DRAWN)}.items():
        files.append(File.generated(config, path, abs_src_path=str(source)))
    written: list[Any] = config.nav or []
    config.nav = navigation.expanded(written, [page.src_uri for page in files.documentation_pages()])
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page's text with what was measured in its places."""
    return measured.filled(markdown)
