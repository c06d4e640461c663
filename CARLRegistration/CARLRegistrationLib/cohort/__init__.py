"""The Cohort section: many pairs, of a table or of the scene's volumes, and each of them in the scene."""
