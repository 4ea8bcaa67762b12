"""Comparisons of models trained with and without TCM, and the command line."""
