"""The command line: parse, call, exit code. The only part of the engine that prints.

Two processes: the first parses, listens for a cancel and waits; the second (`worker`) computes. So a cancel works
while libraries load or a kernel runs, and a worker that the system kills still leaves nothing behind.
"""
