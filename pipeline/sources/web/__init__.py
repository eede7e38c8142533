"""Read files from web servers, and check which hosts an address may reach."""
