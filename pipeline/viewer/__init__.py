"""Looking at finished runs in a browser: what is shown, the server, and the static export."""
