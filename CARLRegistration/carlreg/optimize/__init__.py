"""Finding the map: affine candidates and their refinement, global search, the spline field, the network itself."""
