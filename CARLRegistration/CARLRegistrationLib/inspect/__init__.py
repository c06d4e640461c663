"""The Inspect section: seeing and judging a result."""
