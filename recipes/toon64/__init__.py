"""How the embedded cartoon model was made."""
