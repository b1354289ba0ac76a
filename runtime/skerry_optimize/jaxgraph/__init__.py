"""Runs an ONNX graph as a JAX function of its weights, so that they can be trained and put back.

The graph stays the user's: nothing is exported anew. A graph with an operator that is not on the
list (`registry.kinds()`) is refused by name before anything runs. Importing what lies in here
imports JAX, which costs a second and some hundred megabytes: only steps that train or convert do.
"""

from skerry_optimize.jaxgraph.engine import prepare

prepare()  # JAX reads its settings when it is imported first
