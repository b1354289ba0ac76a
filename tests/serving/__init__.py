"""Models, fakes and running servers for the tests of the serving half."""
