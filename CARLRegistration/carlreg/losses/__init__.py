"""What is minimized: similarities by name, the fast ones that optimize a field, and the published training losses."""
