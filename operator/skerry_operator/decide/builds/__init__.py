"""Builds of a model that Jobs make: which are wanted, what came of them, what the model is then."""
