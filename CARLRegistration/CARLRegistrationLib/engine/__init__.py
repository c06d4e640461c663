"""The engine's process: started, watched, cancelled, and what it needs."""
