"""TensorFlow Lite: from a graph to a .tflite file, and to one of 8-bit integers.

With neither TensorFlow nor torch: the interpreter traces the graph, JAX writes StableHLO, and
LiteRT's own converter makes the file of it. The engine that serves .tflite files examines it.
"""

from skerry_optimize.jaxgraph.engine import prepare

prepare()  # JAX reads its settings when it is imported first
