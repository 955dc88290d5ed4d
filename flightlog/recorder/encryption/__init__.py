"""Encryption at rest: keys, segments of Parquet, and all other files that hold content."""
