"""Training steps of a stack of dense layers, a whole epoch in one compiled call."""
