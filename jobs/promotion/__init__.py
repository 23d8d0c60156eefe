"""How promote works: the slice that both models answer, the figures, the gate, what is written down."""
