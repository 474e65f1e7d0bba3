"""STEM problems: which generators are asked, with which settings, and the true derivation of each answer."""
