"""Reads memory: GPUMonitor and its readers. The only place that knows NVML and /proc."""
