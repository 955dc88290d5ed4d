"""Importers of foreign traces: each reads a format into runs, and one place records them."""

from flightlog.integrations.importers.importing import ImportReport, import_file, import_files

__all__ = ["ImportReport", "import_file", "import_files"]
