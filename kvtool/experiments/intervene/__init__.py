"""`kvtool intervene`: what text does at the image's tokens of chosen heads, changed."""
