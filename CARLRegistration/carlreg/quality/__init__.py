"""How good a registration is: measured, judged by one table of limits, said in the same sentences everywhere."""
