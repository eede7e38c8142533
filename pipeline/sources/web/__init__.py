"""Files on web servers, and which hosts an address may lead to."""
