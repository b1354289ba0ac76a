"""The agent: brings the assigned revision into the pod and never harms the one that serves.

`machine` decides and does no IO; `agent` drives; every other module does one kind of IO.
"""
