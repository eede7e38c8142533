"""Finding, cropping and recognising faces with dlib's networks."""
