"""Importers of foreign traces: each reads a format into runs, and one place records them."""

from flightlog.integrations.importers.importing import (
    Changes,
    ImportReport,
    import_file,
    import_files,
)

__all__ = ["Changes", "ImportReport", "import_file", "import_files"]
