"""The Skerry runtime: serves one model, and swaps it without dropping a request."""
