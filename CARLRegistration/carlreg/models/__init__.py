"""Registration networks: coordinate attention, encoders, U-Nets, the operators that join them, and the registry."""
