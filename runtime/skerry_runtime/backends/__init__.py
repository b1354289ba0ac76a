"""Engines that run a model file; heavy imports stay inside each module."""
