"""The walk over pairs, tile by tile, in one process or many."""
