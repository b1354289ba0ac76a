"""The custom resource definitions and their reference page, made from the API types."""
