"""File headers and bytes: NIfTI, transform files, landmark tables; never torch."""
