"""Training of weights: a build learns to say what a larger model says."""

from skerry_optimize.jaxgraph.engine import prepare

prepare()  # JAX reads its settings when it is imported first
