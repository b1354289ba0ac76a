"""The site cache: files by their sha256, downloaded once for all units of a site.

It holds no credentials and opens no address: agents fetch, and feed it. What it decides is pure
(`ledger`, `claims`); disk and network are beside that. It imports neither pydantic nor an HTTP
library, because boards have little memory.
"""
