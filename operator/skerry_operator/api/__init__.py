"""The custom resources as types: the single source of the CRDs, the docs and the parsing."""
