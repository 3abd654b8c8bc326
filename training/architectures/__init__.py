"""Architectures, one per file; only layers whose operators have CUDA kernels in ONNX Runtime."""
