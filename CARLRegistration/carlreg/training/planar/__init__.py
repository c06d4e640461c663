"""Generated images of the plane: hollow triangles and circles, and vessel trees like a retina's."""
