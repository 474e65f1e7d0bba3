"""Triton kernels for a Hopper GPU, one file each, behind `model.kernels.dispatch`.

Importing this package or the dispatch imports neither Triton nor a kernel; each is loaded when it is first asked to serve.
"""
