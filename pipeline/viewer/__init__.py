"""``restyle view``: finished runs in a browser, by a local server or as a static export."""
