"""What MkDocs calls while it builds the site."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs import coming_from, library, navigation, notebook, operations


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages that are made, and the order of all."""
    for path, content in {**operations.pages(), **library.pages(), **coming_from.pages(), **notebook.pages()}.items():
        files.append(File.generated(config, path, content=content))
    written: list[Any] = config.nav or []
    config.nav = navigation.expanded(written, [page.src_uri for page in files.documentation_pages()])
    return files
