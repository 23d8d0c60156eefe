"""How ``report`` works: plots as inline SVG, words, and one page that needs no other file."""
