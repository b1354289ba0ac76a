"""What pods report: asked for by a poller, kept in a table, read by looks that wait for nobody."""
