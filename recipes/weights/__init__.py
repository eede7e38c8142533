"""How the weights in ``restyle_core/weights`` were made."""
