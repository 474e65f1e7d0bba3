"""Samples to stages: mixture, packing, balance, stage manifests; and the recipes of the whole road."""
