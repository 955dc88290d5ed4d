"""A verdict written out: terminal, JSON, JUnit, Markdown, HTML."""
