"""The Skerry operator: puts models on edge nodes and keeps the good ones there."""
