"""The ES module that browsers run: the server's page, notebooks, and pages of results share it."""
