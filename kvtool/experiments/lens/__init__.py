"""`kvtool lens`: what the final norm and the head read at image tokens, after each layer."""
