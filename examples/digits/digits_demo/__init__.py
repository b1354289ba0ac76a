"""Parts of the digits demo: models, model server, traffic, observation, report."""
