"""The Transforms section: files for other programs and of them, and transforms made of transforms."""
