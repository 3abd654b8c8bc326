"""Numerics shared by physical models, one module per mathematical idea."""
