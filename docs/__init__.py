"""The documentation's site: pages, and what is made for them as it is built.

    .venv/bin/python -m mkdocs build --strict -f docs/mkdocs.yml    # into build/site
    .venv/bin/python -m mkdocs serve -f docs/mkdocs.yml             # and again whenever a page changes

Pages that people write stand in ``pages/``, as Markdown. ``hooks.py`` is what MkDocs calls; it adds the pages, tables
and pictures that follow from the sources and from saved results, a module for each kind.
"""
