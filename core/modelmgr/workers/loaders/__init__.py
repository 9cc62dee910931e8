"""Loaders by name. The only place that imports torch, transformers or onnxruntime."""
