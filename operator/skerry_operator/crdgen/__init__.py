"""The custom resource definitions, and the reference pages of the API and of the catalogue."""
