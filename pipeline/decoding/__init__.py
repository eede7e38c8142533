"""Images become crops, in processes of their own that an image cannot take down with it."""
