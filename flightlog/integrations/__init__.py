"""Importers of foreign traces."""
