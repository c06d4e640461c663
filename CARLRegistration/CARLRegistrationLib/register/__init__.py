"""The panel and one registration."""
