"""Everything a served surrogate is: NumPy, SciPy and ONNX Runtime; never torch."""
