"""Makes smaller and faster builds of an ONNX model, and says in figures what each is worth.

`plan` says what is wanted, the steps (`quantize`, `shapes`, `ortformat`, `prune`) turn one graph
into another, `measure` compares the result with what it was made from, and `guards` judges it.
"""
