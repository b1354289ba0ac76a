"""Taking weights out of a graph: single ones by magnitude, or whole channels."""
